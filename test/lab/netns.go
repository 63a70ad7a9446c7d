package lab

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"

	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// namespaceDir is where iproute2 looks, so `ip netns` shows the lab.
const namespaceDir = "/run/netns"

func namespaceName(lab, host string) string { return "fwlab-" + lab + "-" + host }

func namespacePath(name string) string { return filepath.Join(namespaceDir, name) }

// Namespace is a network namespace with a name: the inside of a host or a pod.
type Namespace struct {
	lab    *Lab
	name   string // of the host
	handle netns.NsHandle
}

// newNamespace makes a namespace whose loopback link is up.
func (l *Lab) newNamespace(host string) (*Namespace, error) {
	n := &Namespace{lab: l, name: host}
	full := namespaceName(l.ID(), host)
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return nil, fmt.Errorf("make namespace %s: %w", full, errClosed)
	}
	err := onThread(func() error {
		if err := shareNamespaceDir(); err != nil {
			return err
		}
		handle, err := netns.NewNamed(full)
		if err != nil {
			return errors.Join(err, deleteNamespace(namespacePath(full)))
		}
		n.handle = handle
		return setUpLoopback()
	})
	if err != nil {
		return nil, fmt.Errorf("make namespace %s: %w", full, err)
	}
	l.namespaces[n] = true
	return n, nil
}

// shareNamespaceDir makes the folder of namespaces a shared mount, as the first
// `ip netns add` on a machine does. If it did so while there is a lab, it would
// put a mount over those of the lab, and nobody could remove them any more.
func shareNamespaceDir() error {
	if err := os.MkdirAll(namespaceDir, 0o755); err != nil {
		return fmt.Errorf("make the folder of namespaces: %w", err)
	}
	share := func() error { return unix.Mount("", namespaceDir, "none", unix.MS_SHARED|unix.MS_REC, "") }
	err := share()
	if errors.Is(err, unix.EINVAL) { // not a mount yet
		if err = unix.Mount(namespaceDir, namespaceDir, "none", unix.MS_BIND|unix.MS_REC, ""); err == nil {
			err = share()
		}
	}
	if err != nil {
		return fmt.Errorf("share %s: %w", namespaceDir, err)
	}
	return nil
}

// Name is the name of the host or pod, without the lab's part.
func (n *Namespace) Name() string { return n.name }

// Netns is the name of the namespace as `ip netns` shows it.
func (n *Namespace) Netns() string { return namespaceName(n.lab.ID(), n.name) }

// Do runs f on a thread that is inside the namespace. Sockets that f opens stay
// there for good; goroutines that f starts run outside.
func (n *Namespace) Do(f func() error) error {
	return onThread(func() error {
		if err := netns.Set(n.handle); err != nil {
			return fmt.Errorf("enter namespace %s: %w", n.Netns(), err)
		}
		return f()
	})
}

// DialContext connects from inside the namespace. The address must be an IP
// address with a port: names are resolved elsewhere.
func (n *Namespace) DialContext(ctx context.Context, network, address string) (conn net.Conn, err error) {
	err = n.Do(func() error {
		var d net.Dialer
		conn, err = d.DialContext(ctx, network, address)
		return err
	})
	return conn, err
}

// Listen listens inside the namespace, as net.Listen does.
func (n *Namespace) Listen(network, address string) (listener net.Listener, err error) {
	err = n.Do(func() error {
		listener, err = net.Listen(network, address)
		return err
	})
	return listener, err
}

// ListenPacket listens inside the namespace, as net.ListenPacket does.
func (n *Namespace) ListenPacket(network, address string) (conn net.PacketConn, err error) {
	err = n.Do(func() error {
		conn, err = net.ListenPacket(network, address)
		return err
	})
	return conn, err
}

// Command prepares a program that runs inside the namespace and ends with ctx.
// For what runs for long use [Namespace.Start].
func (n *Namespace) Command(ctx context.Context, program string, args ...string) *exec.Cmd {
	// The command is started later and by another function, so it has to enter
	// the namespace by itself.
	argv := append([]string{"--net=" + namespacePath(n.Netns()), "--", program}, args...)
	cmd := exec.CommandContext(ctx, "nsenter", argv...)
	cmd.Env = environment()
	return cmd
}

// delete removes the namespace; processes inside must be gone.
func (n *Namespace) delete() error {
	n.lab.mu.Lock()
	defer n.lab.mu.Unlock()
	if !n.lab.namespaces[n] {
		return nil // removed already, perhaps with the lab
	}
	delete(n.lab.namespaces, n)
	return errors.Join(n.handle.Close(), deleteNamespace(namespacePath(n.Netns())))
}

// deleteNamespace removes a named namespace. After a reboot or an interrupted
// creation there is a plain file with nothing mounted on it.
func deleteNamespace(path string) error {
	if err := unix.Unmount(path, unix.MNT_DETACH); err != nil && !errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.ENOENT) {
		return fmt.Errorf("unmount %s: %w", path, err)
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("delete namespace: %w", err)
	}
	return nil
}

// onThread runs f on a thread of its own and waits. The thread returns to the
// namespace that it came from, or dies if that fails.
func onThread(f func() error) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		home, err := netns.Get()
		if err != nil {
			done <- fmt.Errorf("find the thread's namespace: %w", err)
			return
		}
		err = f()
		if back := netns.Set(home); back == nil {
			runtime.UnlockOSThread()
		}
		done <- errors.Join(err, home.Close())
	}()
	return <-done
}
