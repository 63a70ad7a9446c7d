package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
)

// claimDir makes the directory if needed and keeps other control planes out
// of it until release is called or the process ends, however it ends.
func claimDir(dir string) (release func(), err error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("make the directory: %w: choose another with --dir", err)
	}
	lock, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("write in the directory: %w: choose another with --dir", err)
	}
	err = syscall.Flock(int(lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	if errors.Is(err, syscall.EWOULDBLOCK) {
		lock.Close()
		return nil, fmt.Errorf("another control plane runs in %s: stop it or choose another --dir", dir)
	}
	if err != nil {
		lock.Close()
		return nil, fmt.Errorf("lock %s: %w", lock.Name(), err)
	}
	return func() { lock.Close() }, nil
}

// readyPipe is the writing end of a pipe on which the parent process waits:
// it reads one byte when the cluster is ready, or the end if the start failed.
// Without a pipe (nil file) nothing is told.
type readyPipe struct{ file *os.File }

// openReadyPipe takes over an inherited file descriptor; a negative one means
// that nobody waits.
func openReadyPipe(fd int) (*readyPipe, error) {
	if fd < 0 {
		return &readyPipe{}, nil
	}
	// A descriptor that was not passed may be one of the Go runtime's own:
	// only a pipe or a socket can be meant.
	var stat syscall.Stat_t
	if err := syscall.Fstat(fd, &stat); err != nil ||
		stat.Mode&syscall.S_IFMT != syscall.S_IFIFO && stat.Mode&syscall.S_IFMT != syscall.S_IFSOCK {
		return nil, fmt.Errorf("--ready-fd %d is not an inherited pipe", fd)
	}
	return &readyPipe{file: os.NewFile(uintptr(fd), "ready pipe")}, nil
}

// Signal tells the parent that the cluster is ready. A parent that no longer
// listens is not an error.
func (r *readyPipe) Signal() error {
	if r.file == nil {
		return nil
	}
	if _, err := r.file.Write([]byte{'\n'}); err != nil && !errors.Is(err, syscall.EPIPE) {
		return fmt.Errorf("write to the ready pipe: %w", err)
	}
	return r.Close()
}

// Close may be called more than once.
func (r *readyPipe) Close() error {
	if r.file == nil {
		return nil
	}
	file := r.file
	r.file = nil
	if err := file.Close(); err != nil {
		return fmt.Errorf("close the ready pipe: %w", err)
	}
	return nil
}
