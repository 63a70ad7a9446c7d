package lab

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"
)

// stopGrace is how long a process may take to end after SIGTERM. The API server
// needs about 3 s on an idle machine.
const stopGrace = 20 * time.Second

// tailLines is how much of a log an error quotes.
const tailLines = 15

// Process is a program that runs inside a host. It has its own session, so that
// Ctrl-C in a terminal reaches only the program that made the lab.
type Process struct {
	name    string
	logPath string
	cmd     *exec.Cmd
	done    chan struct{}
	err     error // how it ended; valid once done is closed
}

// Start starts a program inside the namespace. argv[0] is its path; env is added
// to the environment of this program. What it prints is appended to
// <host>-<name>.log in the lab's folder.
func (n *Namespace) Start(name string, argv []string, env []string) (*Process, error) {
	return n.start(name, argv, env)
}

// StartReady starts a program that writes a byte to file descriptor 3 when it is
// ready, and waits for that. If it ends or ctx does before, it is killed and the
// error quotes its log.
func (n *Namespace) StartReady(ctx context.Context, name string, argv []string, env []string) (*Process, error) {
	ready, theirs, err := os.Pipe()
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	defer ready.Close()
	p, err := n.start(name, argv, env, theirs)
	if err = errors.Join(err, theirs.Close()); err != nil {
		return nil, err
	}
	got := make(chan error, 1)
	go func() {
		_, err := ready.Read(make([]byte, 1))
		got <- err
	}()
	select {
	case err = <-got:
		if errors.Is(err, io.EOF) {
			err = errors.New("it closed its descriptor without becoming ready")
		}
	case <-ctx.Done():
		err = context.Cause(ctx)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("wait until %s on %s is ready: %w\n%s", name, n.name, err, p.Tail(tailLines)), p.Kill())
	}
	return p, nil
}

func (n *Namespace) start(name string, argv []string, env []string, files ...*os.File) (*Process, error) {
	p := &Process{
		name:    name,
		logPath: filepath.Join(n.lab.state.logDir(), n.name+"-"+name+".log"),
		cmd:     exec.Command(argv[0], argv[1:]...),
		done:    make(chan struct{}),
	}
	log, err := os.OpenFile(p.logPath, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return nil, fmt.Errorf("start %s on %s: %w", name, n.name, err)
	}
	defer log.Close() // the child has its own copy
	p.cmd.Stdout, p.cmd.Stderr = log, log
	p.cmd.Env = append(environment(), env...)
	p.cmd.ExtraFiles = files
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := n.lab.adopt(p, func() error { return n.Do(p.cmd.Start) }); err != nil {
		return nil, fmt.Errorf("start %s on %s: %w", name, n.name, err)
	}
	go func() {
		p.err = p.cmd.Wait()
		close(p.done)
	}()
	return p, nil
}

// environment is this program's without what would lead a child out of the lab:
// a proxy for HTTP, another cluster.
func environment() []string {
	return slices.DeleteFunc(os.Environ(), func(variable string) bool {
		name, _, _ := strings.Cut(variable, "=")
		switch strings.ToUpper(name) {
		case "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "KUBECONFIG":
			return true
		}
		return false
	})
}

// adopt starts a process and remembers it, so that Close misses none.
func (l *Lab) adopt(p *Process, start func() error) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return errClosed
	}
	if err := start(); err != nil {
		return err
	}
	l.processes = append(l.processes, p)
	return nil
}

// Pid is the process id, as the whole machine sees it.
func (p *Process) Pid() int { return p.cmd.Process.Pid }

// LogPath is the file with everything that the process printed.
func (p *Process) LogPath() string { return p.logPath }

// Done is closed when the process has ended.
func (p *Process) Done() <-chan struct{} { return p.done }

// Running tells whether the process has not ended yet.
func (p *Process) Running() bool {
	select {
	case <-p.done:
		return false
	default:
		return true
	}
}

// Err says how the process ended and quotes the end of its log; nil while it
// runs and if it ended with exit code 0.
func (p *Process) Err() error {
	if p.Running() || p.err == nil {
		return nil
	}
	return fmt.Errorf("%s (pid %d): %w\n%s", p.name, p.Pid(), p.err, p.Tail(tailLines))
}

// Signal sends a signal to the process.
func (p *Process) Signal(sig os.Signal) error {
	if err := p.cmd.Process.Signal(sig); err != nil {
		return fmt.Errorf("send %s to %s: %w", sig, p.name, err)
	}
	return nil
}

// Kill ends the process with SIGKILL and waits until it is gone.
func (p *Process) Kill() error {
	if err := p.signalIfAlive(os.Kill); err != nil {
		return err
	}
	<-p.done
	return nil
}

// Stop asks the process to end with SIGTERM and waits until it is gone. If it
// takes longer than 20 s, or than ctx, it is killed and that is the error.
func (p *Process) Stop(ctx context.Context) error {
	if err := p.signalIfAlive(syscall.SIGTERM); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, stopGrace)
	defer cancel()
	select {
	case <-p.done:
		return nil
	case <-ctx.Done():
		return errors.Join(fmt.Errorf("%s did not end after SIGTERM: %w\n%s", p.name, ctx.Err(), p.Tail(tailLines)), p.Kill())
	}
}

func (p *Process) signalIfAlive(sig os.Signal) error {
	err := p.Signal(sig)
	if errors.Is(err, os.ErrProcessDone) {
		return nil
	}
	return err
}

// Tail returns the last lines of the log; for messages, so an unreadable log is
// text as well.
func (p *Process) Tail(lines int) string {
	text, err := tail(p.logPath, lines)
	if err != nil {
		return err.Error()
	}
	return text
}

// tail returns the last lines of a file, at most 64 KiB.
func tail(path string, lines int) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", fmt.Errorf("read a log: %w", err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return "", fmt.Errorf("read a log: %w", err)
	}
	const most = 64 << 10
	text := make([]byte, min(info.Size(), most))
	if _, err := f.ReadAt(text, info.Size()-int64(len(text))); err != nil && !errors.Is(err, io.EOF) {
		return "", fmt.Errorf("read a log: %w", err)
	}
	text = bytes.TrimRight(text, "\n")
	for start, seen := len(text), 0; start > 0; start-- {
		if text[start-1] == '\n' {
			if seen++; seen == lines {
				return string(text[start:]), nil
			}
		}
	}
	return string(text), nil
}
