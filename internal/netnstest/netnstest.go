// Package netnstest runs the tests of a package in a network namespace of their
// own, as a speaker runs in that of its node.
package netnstest

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"syscall"
	"testing"
)

// inside is set in the environment of tests that are in a namespace.
const inside = "FAIRWAY_TEST_IN_NAMESPACE"

// Main is what a package's TestMain calls. It runs the tests as another process
// in a new network namespace and exits as that does; the namespace, with all
// links and sockets in it, ends with the process, however that ends. Without
// root it runs them where they are: see Need.
func Main(m *testing.M) {
	if os.Getenv(inside) != "" || os.Getuid() != 0 {
		os.Exit(m.Run())
	}
	runtime.LockOSThread() // the child is killed when its parent thread ends
	cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
	cmd.Args[0] = os.Args[0]
	cmd.Env = append(os.Environ(), inside+"=1")
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

// Need fails a test at once that is not in a namespace of its own.
func Need(t testing.TB) {
	t.Helper()
	if os.Getenv(inside) == "" {
		t.Fatal("this test makes network namespaces and links: run it as root")
	}
}
