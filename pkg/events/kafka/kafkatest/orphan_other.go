//go:build !linux

package kafkatest

import "syscall"

// withParent does nothing here: a process whose parent is killed goes on.
func withParent() *syscall.SysProcAttr { return nil }
