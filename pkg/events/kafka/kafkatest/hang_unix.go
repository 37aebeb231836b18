//go:build unix

package kafkatest

import (
	"errors"
	"syscall"
)

// Hang makes the node answer nobody until it goes on: connections stand, and
// what is asked of it waits.
func (n *Node) Hang() error { return n.signal(syscall.SIGSTOP) }

// GoOn ends a Hang.
func (n *Node) GoOn() error { return n.signal(syscall.SIGCONT) }

func (n *Node) signal(signal syscall.Signal) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.process == nil {
		return errors.New("the node does not run")
	}
	return n.process.Process.Signal(signal)
}
