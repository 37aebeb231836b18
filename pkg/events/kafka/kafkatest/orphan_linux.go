package kafkatest

import "syscall"

// withParent makes a process end with the one that started it, also when that
// one is killed or panics.
func withParent() *syscall.SysProcAttr { return &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL} }
