package netnstest

import (
	"errors"
	"fmt"
	"runtime"

	"golang.org/x/sys/unix"
)

// Without runs a function on a thread that lacks a capability, and so do the
// programs that it starts. The thread ends with it.
func Without(capability uint, f func() error) error {
	result := make(chan error)
	go func() {
		runtime.LockOSThread() // nobody else gets it
		if err := drop(capability); err != nil {
			result <- fmt.Errorf("drop capability %d: %w", capability, err)
			return
		}
		result <- f()
	}()
	return <-result
}

func drop(capability uint) error {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var sets [2]unix.CapUserData
	if err := unix.Capget(&header, &sets[0]); err != nil {
		return err
	}
	set, bit := &sets[capability/32], uint32(1)<<(capability%32)
	set.Effective &^= bit
	set.Permitted &^= bit
	set.Inheritable &^= bit
	// Of root's programs, the bounding set is what they get.
	return errors.Join(unix.Prctl(unix.PR_CAPBSET_DROP, uintptr(capability), 0, 0, 0), unix.Capset(&header, &sets[0]))
}
