package lab

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// killTimeout is how long a killed process may take to be gone; the kernel has
// to free an API server's memory on a loaded machine.
const killTimeout = 15 * time.Second

// Info describes a lab that exists on this machine.
type Info struct {
	Name  string
	Kept  bool // it is to outlive the program that made it
	Owned bool // the program that made it is alive
}

// List returns the labs of this machine, sorted by name.
func List() ([]Info, error) {
	unlock, err := lockRegistry()
	if err != nil {
		return nil, err
	}
	defer unlock()
	return list()
}

// Remove removes a lab that was kept, or whose program died. It refuses while
// the program that made it is alive.
func Remove(name string) error {
	unlock, err := lockRegistry()
	if err != nil {
		return err
	}
	defer unlock()
	labs, err := list()
	if err != nil {
		return err
	}
	i := slices.IndexFunc(labs, func(info Info) bool { return info.Name == name })
	switch {
	case i < 0:
		return fmt.Errorf("there is no lab %q", name)
	case labs[i].Owned:
		return fmt.Errorf("remove lab %s: %w", name, errLocked)
	}
	return removeAll(name)
}

// Reap removes the labs whose programs died without closing or keeping them.
func Reap() error {
	unlock, err := lockRegistry()
	if err != nil {
		return err
	}
	defer unlock()
	labs, err := list()
	if err != nil {
		return err
	}
	var errs []error
	for _, info := range labs {
		if !info.Owned && !info.Kept {
			errs = append(errs, removeAll(info.Name))
		}
	}
	return errors.Join(errs...)
}

// list needs the registry's lock: trying a lab's lock takes it for a moment.
func list() ([]Info, error) {
	entries, err := os.ReadDir(stateRoot)
	if err != nil {
		return nil, fmt.Errorf("list the labs: %w", err)
	}
	var labs []Info
	for _, entry := range entries {
		if !entry.IsDir() {
			continue
		}
		dir := filepath.Join(stateRoot, entry.Name())
		info := Info{Name: entry.Name(), Kept: isFile(filepath.Join(dir, keptFile))}
		lock, err := tryLock(filepath.Join(dir, lockFile))
		switch {
		case errors.Is(err, errLocked):
			info.Owned = true
		case err != nil:
			return nil, err
		default:
			_ = lock.Close()
		}
		labs = append(labs, info)
	}
	return labs, nil
}

// removeAll removes a lab that nobody owns; it needs the registry's lock.
func removeAll(id string) error {
	if err := removeNamespaces(id); err != nil {
		return err
	}
	return removeFolder(id)
}

// removeNamespaces kills what lives in the lab's namespaces and removes them.
// The folder goes last: whoever is interrupted in between leaves it behind, and
// with it the knowledge that there is something to remove.
func removeNamespaces(id string) error {
	prefix := namespacePath(namespaceName(id, ""))
	paths, err := filepath.Glob(prefix + "*")
	if err != nil {
		return fmt.Errorf("list the namespaces of lab %s: %w", id, err)
	}
	// Names of hosts have no dash: lab "a" leaves the namespaces of "a-b" alone.
	paths = slices.DeleteFunc(paths, func(path string) bool {
		return strings.Contains(strings.TrimPrefix(path, prefix), "-")
	})
	errs := []error{killInhabitants(paths)}
	for _, path := range paths {
		errs = append(errs, deleteNamespace(path))
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("remove the namespaces of lab %s: %w", id, err)
	}
	return nil
}

// removeFolder needs the registry's lock, or somebody who lists the labs could
// put a lock file into a half removed folder.
func removeFolder(id string) error {
	if err := os.RemoveAll(filepath.Join(stateRoot, id)); err != nil {
		return fmt.Errorf("remove the folder of lab %s: %w", id, err)
	}
	return nil
}

// inode identifies a namespace, whatever path leads to it.
type inode struct {
	dev uint64
	ino uint64
}

func inodeOf(path string) (inode, error) {
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		return inode{}, &os.PathError{Op: "stat", Path: path, Err: err}
	}
	return inode{st.Dev, st.Ino}, nil
}

// killInhabitants ends every process that lives in one of the namespaces. It
// looks again until a look finds none, because a process may start another one
// while it is being killed.
func killInhabitants(paths []string) error {
	namespaces := map[inode]bool{}
	for _, path := range paths {
		id, err := inodeOf(path)
		if err != nil {
			return fmt.Errorf("identify a namespace: %w", err)
		}
		namespaces[id] = true
	}
	deadline := time.Now().Add(killTimeout)
	for {
		found, err := killOnce(namespaces, deadline)
		if err != nil || !found {
			return err
		}
		if time.Now().After(deadline) {
			return errors.New("processes in the namespaces start faster than they can be killed")
		}
	}
}

func killOnce(namespaces map[inode]bool, deadline time.Time) (found bool, err error) {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return false, fmt.Errorf("list processes: %w", err)
	}
	var dying []int // pidfds
	defer func() {
		for _, fd := range dying {
			_ = unix.Close(fd)
		}
	}()
	for _, entry := range entries {
		pid, err := strconv.Atoi(entry.Name())
		if err != nil || pid == os.Getpid() {
			continue // this program visits namespaces, it does not live there
		}
		// The descriptor comes first: it pins the process whose namespace is
		// looked at, so that a recycled pid is never killed.
		fd, err := unix.PidfdOpen(pid, 0)
		if err != nil {
			continue // gone
		}
		id, err := inodeOf(fmt.Sprintf("/proc/%d/ns/net", pid))
		if err != nil || !namespaces[id] {
			_ = unix.Close(fd)
			continue // gone, a zombie, or elsewhere
		}
		dying = append(dying, fd)
		if err := unix.PidfdSendSignal(fd, unix.SIGKILL, nil, 0); err != nil && !errors.Is(err, unix.ESRCH) {
			return true, fmt.Errorf("kill process %d: %w", pid, err)
		}
	}
	for _, fd := range dying {
		if err := awaitExit(fd, deadline); err != nil {
			return true, err
		}
	}
	return len(dying) > 0, nil
}

// awaitExit waits until the process of a pidfd is dead, reaped or not.
func awaitExit(pidfd int, deadline time.Time) error {
	for {
		fds := []unix.PollFd{{Fd: int32(pidfd), Events: unix.POLLIN}}
		n, err := unix.Poll(fds, int(max(time.Until(deadline).Milliseconds(), 0)))
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case err != nil:
			return fmt.Errorf("wait for a killed process: %w", err)
		case n == 0:
			return fmt.Errorf("a killed process did not end within %s", killTimeout)
		}
		return nil
	}
}
