package acceptance

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"
	"time"

	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"
)

// startLimit is far above the seconds that a start takes on a busy machine.
const startLimit = 2 * time.Minute

// controlPlane is a running `kubernetes controlplane`.
type controlPlane struct {
	dir    string
	cmd    *exec.Cmd
	stderr *bytes.Buffer
}

// start returns when the process has said that it is ready. It is killed at
// the end of the test unless the test stopped it.
func start(t *testing.T, dir, address string, port int) *controlPlane {
	t.Helper()
	c, ready := launch(t, dir, address, port)
	awaitReady(t, c, ready)
	return c
}

// launch does not wait; the process tells on the returned pipe.
func launch(t *testing.T, dir, address string, port int) (*controlPlane, *os.File) {
	t.Helper()
	ready, writeEnd, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ready.Close() })
	c := &controlPlane{dir: dir, stderr: &bytes.Buffer{}}
	c.cmd = exec.Command(program(t), "controlplane", "--dir", dir, "--bind-address", address,
		"--secure-port", strconv.Itoa(port), "--ready-fd", "3")
	c.cmd.ExtraFiles = []*os.File{writeEnd}
	c.cmd.Stderr = c.stderr
	if err := c.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if c.cmd.ProcessState == nil {
			_ = c.cmd.Process.Kill() // it may have ended by itself
			_ = c.cmd.Wait()
		}
	})
	if err := writeEnd.Close(); err != nil {
		t.Fatal(err)
	}
	return c, ready
}

func awaitReady(t *testing.T, c *controlPlane, ready *os.File) {
	t.Helper()
	if err := ready.SetReadDeadline(time.Now().Add(startLimit)); err != nil {
		t.Fatal(err)
	}
	told, err := io.ReadAll(ready)
	if err != nil || len(told) != 1 {
		_ = c.cmd.Process.Kill()
		_ = c.cmd.Wait()
		t.Fatalf("the control plane did not become ready (%v); it said:\n%s", err, c.stderr)
	}
}

// stop asks the process to end and wants it to have ended in order.
func (c *controlPlane) stop(t *testing.T) {
	t.Helper()
	if err := c.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := c.cmd.Wait(); err != nil {
		t.Fatalf("stop: %v; it said:\n%s", err, c.stderr)
	}
}

func (c *controlPlane) client(t *testing.T, kubeconfig string) *kubernetes.Clientset {
	t.Helper()
	config, err := clientcmd.BuildConfigFromFlags("", filepath.Join(c.dir, kubeconfig))
	if err != nil {
		t.Fatal(err)
	}
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		t.Fatal(err)
	}
	return client
}

// program is the multi-call program, from $FAIRWAY_BIN or the project's bin.
func program(t *testing.T) string {
	t.Helper()
	bin := os.Getenv("FAIRWAY_BIN")
	if bin == "" {
		bin = filepath.Join("..", "..", "..", "bin")
	}
	path, err := filepath.Abs(filepath.Join(bin, "kubernetes"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(path); err != nil {
		t.Fatalf("%s is missing: build it with test/controlplane/build.sh %s", path, filepath.Dir(path))
	}
	return path
}

// freePort is a port that no program has on any of the addresses now.
func freePort(t *testing.T, addresses ...string) int {
	t.Helper()
	port := 0
	for _, address := range addresses {
		l, err := net.Listen("tcp", net.JoinHostPort(address, fmt.Sprint(port)))
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		port = l.Addr().(*net.TCPAddr).Port
	}
	return port
}
