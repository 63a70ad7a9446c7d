package uml

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// inside is set in the environment of tests that are in a guest.
const inside = "FAIRWAY_TEST_IN_GUEST"

// Inside tells whether the process is in a guest.
func Inside() bool { return os.Getenv(inside) != "" }

// Test runs a test and its subtests in a guest. It is for the beginning of that
// test: where it returns false, the test has been run and has to return. It
// compiles the package's tests anew, because the race detector does not work
// there. The guest's kernel gets arguments in addition to those that it needs.
//
//	func TestInGuest(t *testing.T) {
//		if !uml.Test(t) {
//			return
//		}
//		t.Run(...)
//	}
func Test(t *testing.T, kernel ...string) bool {
	t.Helper()
	if Inside() {
		return true
	}
	Guest{Kernel: kernel}.Test(t)
	return false
}

// Test is what [Test] does on the host, in a guest that is more than a kernel:
// it has the folders and the link of g, and its environment.
func (g Guest) Test(t *testing.T) {
	t.Helper()
	program, err := compiled()
	if err != nil {
		t.Fatalf("compile the tests for the guest: %v", err)
	}
	dir, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	args := []string{"-test.run=" + pattern(t.Name()), "-test.v"}
	if deadline, set := t.Deadline(); set {
		// Of the three, the test in the guest is to give up first: it says where.
		// It begins when the guest has booted.
		args = append(args, "-test.timeout="+time.Until(deadline.Add(-2*grace-booting)).String())
		ctx, cancel = context.WithDeadline(ctx, deadline.Add(-grace))
		defer cancel()
	}
	var printed bytes.Buffer
	var output io.Writer = &printed
	if testing.Verbose() {
		output = os.Stdout
	}
	g.Program, g.Args, g.Dir, g.Output = fmt.Sprintf("/proc/self/fd/%d", program.Fd()), args, dir, output
	g.Env = append(g.Env, inside+"=1")
	code, err := g.Run(ctx)
	if err != nil || code != 0 {
		t.Errorf("exit code %d, %v\n%s", code, err, printed.Bytes())
	}
}

// compiled is the program of the package's tests: linked once for all tests of a
// process, and gone with it, for the file has no name any more.
var compiled = sync.OnceValues(func() (*os.File, error) {
	folder, err := newJob()
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(folder)
	program := filepath.Join(folder, "program")
	// The options are those of the programs that tests start, which are compiled
	// already. Nobody debugs in a guest.
	build := exec.Command("go", "test", "-c", "-trimpath", "-ldflags=-w", "-o", program, ".")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("%w\n%s", err, out)
	}
	return os.Open(program)
})

// grace is what an orderly end takes, and booting what a guest takes on a busy
// machine.
const grace, booting = 5 * time.Second, 20 * time.Second

// pattern selects the test of a name, and of its subtests those that the command
// line does.
func pattern(name string) string {
	wanted := "^" + strings.ReplaceAll(name, "/", "$/^") + "$"
	for i, a := range os.Args {
		run, found := strings.CutPrefix(strings.TrimPrefix(a, "-"), "-test.run=")
		if !found {
			run, found = strings.CutPrefix(a, "-test.run=")
		}
		if !found && a == "-test.run" && i+1 < len(os.Args) {
			run, found = os.Args[i+1], true
		}
		depth := strings.Count(name, "/") + 1
		if levels := strings.Split(run, "/"); found && len(levels) > depth {
			wanted += "/" + strings.Join(levels[depth:], "/")
		}
	}
	return wanted
}
