// Package uml runs tests in a User Mode Linux guest: a kernel that is a process
// of the host, for what the host's own kernel lacks. It takes three seconds to
// boot, and the Debian package user-mode-linux.
//
// The guest sees the host's files, read only, and has its own /proc, /sys, /tmp
// and network. It is no sandbox: root in there can mount any folder of the host.
package uml

import (
	"bytes"
	"context"
	_ "embed"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// kernel is where the Debian package has it.
const kernel = "/usr/bin/linux.uml"

// memory of a guest, of which the host gives what is used.
const memory = "4G"

// jobArgument is the argument of the kernel that names the guest's folder, also
// for the init script.
const jobArgument = "fairway_job="

// memoryDir is where the guest's memory is not written to a disk.
const memoryDir = "/dev/shm"

//go:embed init.sh
var initScript []byte

// Guest is a program to run, as root on a kernel of its own.
type Guest struct {
	Program string   // a file, which is copied: it may go once Run has returned
	Args    []string // without its name
	Env     []string // in addition to what the guest sets
	Dir     string   // where it runs, to be read only
	Folders []string // of the host, to be read also where the guest has its own, as in /tmp
	Tap     Tap      // its link to the host, if it is to have one
	Output  io.Writer
	Kernel  []string // arguments of the kernel, and of modules as in ipv6.disable=1
}

// Tap is a device of the host that gets the frames that a guest sends by
// [Link], and sends those that the guest gets.
type Tap struct {
	Namespace string // the file of the network namespace that has it
	Name      string
}

// Link is what the guest's end of a [Tap] is called.
const Link = "vec0"

// Run boots a guest and returns the exit code of the program. What the program
// prints comes to Output as it is printed. The guest ends with ctx, and leaves
// nothing behind.
func (g Guest) Run(ctx context.Context) (code int, err error) {
	if _, err := os.Stat(kernel); err != nil {
		return 0, fmt.Errorf("find the kernel of the guest, which Debian's package user-mode-linux has: %w", err)
	}
	if err := sweep(); err != nil {
		return 0, err
	}
	job, err := newJob()
	if err != nil {
		return 0, fmt.Errorf("make a folder for the guest: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(job)) }()
	if err := g.prepare(job); err != nil {
		return 0, fmt.Errorf("prepare the guest: %w", err)
	}
	var log bytes.Buffer
	if err := g.boot(ctx, job, &log); err != nil && ctx.Err() != nil {
		return 0, fmt.Errorf("the guest did not end in time: %w; its kernel said:\n%s", context.Cause(ctx), tail(log.Bytes()))
	}
	text, err := os.ReadFile(filepath.Join(job, "code"))
	if err != nil {
		return 0, fmt.Errorf("the guest died; its kernel said:\n%s", tail(log.Bytes()))
	}
	code, err = strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil {
		return 0, fmt.Errorf("read the exit code: %w", err)
	}
	return code, nil
}

// prepare fills the folder that the guest and the host share.
func (g Guest) prepare(job string) error {
	program, err := os.ReadFile(g.Program)
	if err != nil {
		return err
	}
	var command strings.Builder
	for _, f := range g.Folders {
		fmt.Fprintf(&command, "mkdir -p %[1]s && mount -t hostfs -o ro,%[1]s none %[1]s || exit\n", quote(f))
	}
	fmt.Fprintf(&command, "cd %s || cd /\n", quote(g.Dir))
	for _, e := range g.Env {
		fmt.Fprintf(&command, "export %s\n", quote(e))
	}
	command.WriteString("exec /run/job/program")
	for _, a := range g.Args {
		command.WriteString(" " + quote(a))
	}
	command.WriteString("\n")
	return errors.Join(
		os.WriteFile(filepath.Join(job, "program"), program, 0o755),
		os.WriteFile(filepath.Join(job, "init"), initScript, 0o755),
		os.WriteFile(filepath.Join(job, "command"), []byte(command.String()), 0o644),
	)
}

func (g Guest) boot(ctx context.Context, job string, log io.Writer) error {
	argv := []string{kernel,
		"mem=" + memory, "rootfstype=hostfs", "rootflags=/", "ro", "init=" + job + "/init", jobArgument + job,
		"uml_dir=" + job + "/uml", "umid=guest", // its control socket, else in the home folder
		"con=null", "con0=null,fd:2", "con1=null,fd:1", "ssl=null", // the program prints on console 1
		"quiet", "loglevel=4", "noreboot", "panic=1"}
	argv = append(argv, g.Kernel...)
	if g.Tap.Name != "" {
		argv = append([]string{"nsenter", "--net=" + g.Tap.Namespace, "--"}, argv...)
		argv = append(argv, Link+":transport=tap,ifname="+g.Tap.Name)
	}
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.Stdout, cmd.Stderr = g.Output, log
	cmd.Env = append(os.Environ(), "TMPDIR="+memoryDir) // of a file without a name
	// The guest's processes are processes here, and a group that is killed with
	// it. What is left where the test itself is killed is for sweep.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = time.Second // what is left of the group may hold the output
	unpin, err := pin()
	if err != nil {
		return err
	}
	err = cmd.Start()
	unpinned := unpin()
	if err == nil {
		err = cmd.Wait()
	}
	err = errors.Join(err, unpinned)
	if cmd.Process != nil {
		// That there is none is as it should be.
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
	}
	return err
}

// quote makes one word of the shell.
func quote(s string) string { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'" }

// tail is enough of the kernel's log for an oops.
func tail(log []byte) []byte {
	const lines = 60
	all := bytes.Split(bytes.TrimSpace(log), []byte("\n"))
	return bytes.Join(all[max(0, len(all)-lines):], []byte("\n"))
}
