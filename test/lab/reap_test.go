package lab

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// childMode makes the test program play a program that uses a lab: "crash"
// waits to be killed, "keep" keeps its lab and ends.
const childMode = "FAIRWAY_LAB_TEST_CHILD"

// TestChild is no test but the body of that program.
func TestChild(t *testing.T) {
	mode := os.Getenv(childMode)
	if mode == "" {
		return
	}
	l, err := New(t.Context(), Options{})
	if err != nil {
		t.Fatal(err)
	}
	p, err := l.Node("n1").Start("sleep", []string{"/bin/sleep", "1000"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if mode == "keep" {
		if err := l.Keep(); err != nil {
			t.Fatal(err)
		}
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
	}
	fmt.Printf("lab %s %d\n", l.ID(), p.Pid())
	if mode == "crash" {
		_, _ = bufio.NewReader(os.Stdin).ReadByte() // nothing comes
	}
}

// startChild returns when the child's lab stands.
func startChild(t *testing.T, mode string) (cmd *exec.Cmd, id string, pid int) {
	t.Helper()
	cmd = exec.Command(os.Args[0], "-test.run=^TestChild$")
	cmd.Env = append(os.Environ(), childMode+"="+mode)
	cmd.Stderr = os.Stderr
	if _, err := cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill() })
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		if n, _ := fmt.Sscanf(lines.Text(), "lab %s %d", &id, &pid); n == 2 {
			return cmd, id, pid
		}
		t.Log(lines.Text())
	}
	t.Fatal("the child made no lab")
	return nil, "", 0
}

func TestNewRemovesTheLabOfACrashedProgram(t *testing.T) {
	cmd, id, pid := startChild(t, "crash")
	newLab(t, 1)
	if !alive(pid) || len(namespacesOf(t, id)) == 0 {
		t.Fatal("New removed the lab of a program that is alive")
	}
	if err := Remove(id); err == nil {
		t.Fatal("Remove removed the lab of a program that is alive")
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait() // it was killed
	if !alive(pid) {
		t.Fatal("the crash took the process inside the lab along, so there is nothing to test")
	}
	newLab(t, 1)
	assertGone(t, id, pid)
}

func TestAKeptLabLivesOnUntilItIsRemoved(t *testing.T) {
	cmd, id, pid := startChild(t, "keep")
	if err := cmd.Wait(); err != nil {
		t.Fatal(err)
	}
	newLab(t, 1)
	if !alive(pid) {
		t.Error("the kept lab's process is gone")
	}
	labs, err := List()
	if err != nil {
		t.Fatal(err)
	}
	if want := (Info{Name: id, Kept: true}); !slices.Contains(labs, want) {
		t.Errorf("labs are %v, want also %v", labs, want)
	}
	if _, err := New(t.Context(), Options{Name: id}); err == nil || !strings.Contains(err.Error(), "was kept") {
		t.Errorf("a second lab of that name: error %v", err)
	}
	if err := Remove(id); err != nil {
		t.Fatal(err)
	}
	assertGone(t, id, pid)
	if err := Remove(id); err == nil {
		t.Error("removing it twice is no error")
	}
}

func TestCloseLeavesNothing(t *testing.T) {
	l := newLab(t, 2)
	// A process that the lab's own process starts, in a session of its own.
	p, err := l.Node("n2").Start("shell", []string{"/bin/sh", "-c", "setsid sleep 1000 & echo child $!; wait"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	var grandchild int
	if err := poll(testContext(t, patience), "the shell has a child", func() error {
		_, err := fmt.Sscanf(p.Tail(1), "child %d", &grandchild)
		return err
	}); err != nil {
		t.Fatal(err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	assertGone(t, l.ID(), p.Pid(), grandchild)
	if _, err := l.Node("n2").Start("late", []string{"/bin/true"}, nil); err == nil {
		t.Error("a closed lab started a process")
	}
}

func assertGone(t *testing.T, id string, pids ...int) {
	t.Helper()
	for _, pid := range pids {
		if alive(pid) {
			t.Errorf("process %d of lab %s is alive", pid, id)
		}
	}
	if left := namespacesOf(t, id); len(left) != 0 {
		t.Errorf("namespaces of lab %s are left: %v", id, left)
	}
	if isDir(filepath.Join(stateRoot, id)) {
		t.Errorf("the folder of lab %s is left", id)
	}
}

func namespacesOf(t *testing.T, id string) []string {
	t.Helper()
	paths, err := filepath.Glob(namespacePath(namespaceName(id, "*")))
	if err != nil {
		t.Fatal(err)
	}
	return paths
}

// alive tells a running process from one that is gone or dead and not reaped.
func alive(pid int) bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return false
	}
	_, state, ok := strings.Cut(string(stat), ") ")
	return ok && !strings.HasPrefix(state, "Z")
}
