package uml

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/fairway-lb/fairway/internal/netnstest"
)

func TestMain(m *testing.M) { netnstest.Main(m) }

func run(t *testing.T, ctx context.Context, script string) (string, int, error) {
	t.Helper()
	return runIn(t, ctx, Guest{}, script)
}

func runIn(t *testing.T, ctx context.Context, g Guest, script string) (string, int, error) {
	t.Helper()
	t.Setenv("TMPDIR", t.TempDir())
	program := filepath.Join(t.TempDir(), "program")
	if err := os.WriteFile(program, []byte("#!/bin/bash\n"+script), 0o755); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	out := output{begun: cancel}
	g.Program, g.Args, g.Env, g.Dir, g.Output = program, []string{"it's", "$HOME"}, []string{"SOME=a b"}, "/usr", &out
	code, err := g.Run(ctx)
	if left, e := os.ReadDir(os.TempDir()); e != nil || len(left) > 0 {
		t.Errorf("left behind: %v %v", left, e)
	}
	return out.text.String(), code, err
}

// output has the test end once a guest has begun.
type output struct {
	text  bytes.Buffer
	begun func()
}

func (o *output) Write(p []byte) (int, error) {
	n, err := o.text.Write(p)
	if strings.Contains(o.text.String(), "begun\n") {
		o.begun()
	}
	return n, err
}

func TestGuest(t *testing.T) {
	out, code, err := run(t, t.Context(), `echo "$1 $2 $SOME $PWD"; modprobe ip_vs && ls -d /proc/sys/net/ipv4/vs; exit 7`)
	if want := "it's $HOME a b /usr\n/proc/sys/net/ipv4/vs\n"; out != want || code != 7 || err != nil {
		t.Errorf("printed %q and ended with %d, %v; want %q and 7", out, code, err, want)
	}
}

// A guest reads what its own folders would hide, and has a link to the host.
func TestGuestsSurroundings(t *testing.T) {
	netnstest.Need(t)
	folder := t.TempDir()
	if err := os.WriteFile(filepath.Join(folder, "file"), []byte("from a folder\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, command := range []string{"tuntap add tap0 mode tap", "address add 192.0.2.1/24 dev tap0", "link set tap0 up"} {
		if out, err := exec.Command("ip", strings.Fields(command)...).CombinedOutput(); err != nil {
			t.Fatalf("ip %s: %v: %s", command, err, out)
		}
	}
	listener, err := net.Listen("tcp", "192.0.2.1:80")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	go func() {
		if conn, err := listener.Accept(); err == nil {
			_, _ = io.WriteString(conn, "by the link\n")
			conn.Close()
		}
	}()
	g := Guest{Folders: []string{folder}, Tap: Tap{Namespace: "/proc/self/ns/net", Name: "tap0"}}
	out, code, err := runIn(t, t.Context(), g, fmt.Sprintf(`set -e
cat %[1]s/file
! touch %[1]s/other 2>/dev/null
ip address add 192.0.2.2/24 dev %[2]s
ip link set %[2]s up
cat </dev/tcp/192.0.2.1/80`, folder, Link))
	if want := "from a folder\nby the link\n"; out != want || code != 0 || err != nil {
		t.Errorf("printed %q and ended with %d, %v; want %q", out, code, err, want)
	}
}

func TestGuestThatHangs(t *testing.T) {
	out, _, err := run(t, t.Context(), "echo begun; exec tail -f /dev/null")
	if err == nil || !strings.Contains(err.Error(), "did not end in time") || out != "begun\n" {
		t.Errorf("printed %q, %v", out, err)
	}
}

func TestGuestThatDies(t *testing.T) {
	_, _, err := run(t, t.Context(), "echo 1 > /proc/sys/kernel/sysrq; echo c > /proc/sysrq-trigger; exec tail -f /dev/null")
	if err == nil || !strings.Contains(err.Error(), "the guest died") || !strings.Contains(err.Error(), "sysrq") {
		t.Errorf("a guest that died: %v", err)
	}
}

// What a killed test has left is gone when the next guest starts.
func TestSweep(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	gone := exec.Command("true")
	if err := gone.Run(); err != nil {
		t.Fatal(err)
	}
	job := filepath.Join(os.TempDir(), fmt.Sprintf("%s%d-1", jobPrefix, gone.Process.Pid))
	own, err := newJob()
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(job, 0o755); err != nil {
		t.Fatal(err)
	}
	guests := map[string]*exec.Cmd{}
	for _, of := range []string{job, own} {
		guests[of] = exec.Command("tail", "-f", "/dev/null", "--", jobArgument+of)
		if err := guests[of].Start(); err != nil {
			t.Fatal(err)
		}
	}
	if err := sweep(); err != nil {
		t.Fatal(err)
	}
	if err := guests[job].Wait(); err == nil || !strings.Contains(err.Error(), "killed") {
		t.Errorf("what was left has ended with %v", err)
	}
	if _, err := os.Stat(job); !os.IsNotExist(err) {
		t.Errorf("its folder: %v", err)
	}
	if _, err := os.Stat(own); err != nil {
		t.Errorf("the folder of a guest that runs: %v", err)
	}
	if err := guests[own].Process.Kill(); err != nil {
		t.Errorf("a guest that runs: %v", err)
	}
	_ = guests[own].Wait() // it was killed
}

func TestPattern(t *testing.T) {
	before := os.Args
	defer func() { os.Args = before }()
	for run, want := range map[string]string{
		"TestA":           "^TestA$/^b_c$",
		"TestA/b":         "^TestA$/^b_c$",
		"TestA/b/d e/f_g": "^TestA$/^b_c$/d e/f_g",
	} {
		os.Args = []string{"program", "-test.v", "-test.run=" + run}
		if got := pattern("TestA/b_c"); got != want {
			t.Errorf("-run %s: %s, want %s", run, got, want)
		}
	}
}
