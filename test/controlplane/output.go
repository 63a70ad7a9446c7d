package main

import (
	"fmt"
	"os"
	"runtime/debug"
	"syscall"
	"time"

	"k8s.io/klog/v2"
)

// progress tells the user what has been reached, with seconds since the start.
type progress struct {
	out   *os.File
	start time.Time
}

// newProgress keeps the present standard error for the user.
func newProgress() (*progress, error) {
	fd, err := syscall.Dup(syscall.Stderr)
	if err != nil {
		return nil, fmt.Errorf("duplicate standard error: %w", err)
	}
	syscall.CloseOnExec(fd)
	return &progress{out: os.NewFile(uintptr(fd), "stderr"), start: time.Now()}, nil
}

func (p *progress) say(format string, args ...any) {
	fmt.Fprintf(p.out, "controlplane: %5.1f s  %s\n", time.Since(p.start).Seconds(), fmt.Sprintf(format, args...))
}

// divertLogs sends all that the programs write to standard error to the file
// instead. A crash and a fatal error, which end the process from inside the
// programs, are told to the user too.
func (p *progress) divertLogs(path string) error {
	log, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("open the log: %w", err)
	}
	defer log.Close()
	if err := syscall.Dup3(int(log.Fd()), syscall.Stderr, 0); err != nil {
		return fmt.Errorf("send standard error to %s: %w", path, err)
	}
	if err := debug.SetCrashOutput(p.out, debug.CrashOptions{}); err != nil {
		return fmt.Errorf("send crashes to standard error: %w", err)
	}
	klog.OsExit = func(code int) {
		p.say("a program ended with a fatal error (details in %s)", path)
		os.Exit(code)
	}
	return nil
}
