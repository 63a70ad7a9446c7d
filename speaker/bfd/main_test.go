package bfd

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"syscall"
	"testing"
)

const inNamespace = "FAIRWAY_BFD_TEST_IN_NAMESPACE"

// TestMain runs the tests as a process of its own in a new network namespace,
// which ends with the process.
func TestMain(m *testing.M) {
	if os.Getenv(inNamespace) != "" || os.Getuid() != 0 {
		os.Exit(m.Run())
	}
	runtime.LockOSThread() // the child is killed when its parent thread ends
	cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
	cmd.Args[0] = os.Args[0]
	cmd.Env = append(os.Environ(), inNamespace+"=1")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET, Pdeathsig: syscall.SIGKILL}
	err := cmd.Run()
	if err != nil && cmd.ProcessState == nil {
		fmt.Fprintln(os.Stderr, "run the tests in a network namespace:", err)
		os.Exit(1)
	}
	var exit *exec.ExitError
	if errors.As(err, &exit) && exit.ExitCode() < 0 {
		fmt.Fprintln(os.Stderr, "tests ended by", err)
		os.Exit(1)
	}
	os.Exit(cmd.ProcessState.ExitCode())
}
