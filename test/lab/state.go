package lab

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"

	"golang.org/x/sys/unix"
)

// stateRoot has one folder per lab. It lies in /run because namespaces do not
// outlive a reboot either.
const stateRoot = "/run/fairway-lab"

const (
	lockFile = "lock" // flock'ed by the program that owns the lab
	keptFile = "kept" // present if the lab is to outlive that program
)

// validID also keeps the names of namespaces readable and free of separators.
const validID = `^[a-z0-9]([a-z0-9-]{0,30}[a-z0-9])?$`

// state is a lab's folder and this program's claim to it.
type state struct {
	id   string
	dir  string
	lock *os.File
}

// newState makes and locks the folder of a new lab; a random id if none given.
func newState(id string) (*state, error) {
	if id == "" {
		var random [3]byte
		if _, err := rand.Read(random[:]); err != nil {
			return nil, fmt.Errorf("choose a name for the lab: %w", err)
		}
		id = hex.EncodeToString(random[:])
	}
	if !regexp.MustCompile(validID).MatchString(id) {
		return nil, fmt.Errorf("lab name %q: want lower-case letters, digits and dashes, at most 32", id)
	}
	unlock, err := lockRegistry()
	if err != nil {
		return nil, err
	}
	defer unlock()

	s := &state{id: id, dir: filepath.Join(stateRoot, id)}
	if err := os.Mkdir(s.dir, 0o755); errors.Is(err, os.ErrExist) {
		return nil, s.whyTaken()
	} else if err != nil {
		return nil, fmt.Errorf("make the folder of lab %s: %w", id, err)
	}
	if s.lock, err = tryLock(filepath.Join(s.dir, lockFile)); err != nil {
		return nil, errors.Join(err, os.RemoveAll(s.dir))
	}
	if err := os.Mkdir(s.logDir(), 0o755); err != nil {
		return nil, errors.Join(err, s.release(), os.RemoveAll(s.dir))
	}
	return s, nil
}

func (s *state) whyTaken() error {
	if isFile(filepath.Join(s.dir, keptFile)) {
		return fmt.Errorf("lab %s was kept and still runs: remove it first", s.id)
	}
	return fmt.Errorf("lab %s belongs to another program that still runs", s.id)
}

func (s *state) logDir() string { return filepath.Join(s.dir, "logs") }

func (s *state) markKept() error {
	if err := os.WriteFile(filepath.Join(s.dir, keptFile), nil, 0o644); err != nil {
		return fmt.Errorf("keep lab %s: %w", s.id, err)
	}
	return nil
}

// release gives up the claim: from now on the lab is reaped unless kept.
func (s *state) release() error {
	if err := s.lock.Close(); err != nil {
		return fmt.Errorf("release lab %s: %w", s.id, err)
	}
	return nil
}

// lockRegistry serialises the making and the removing of labs on this machine,
// so that nobody sees a folder whose owner did not come to lock it yet.
func lockRegistry() (unlock func(), err error) {
	if err := os.MkdirAll(stateRoot, 0o755); err != nil {
		return nil, fmt.Errorf("make the folder of labs: %w", err)
	}
	f, err := os.OpenFile(filepath.Join(stateRoot, ".lock"), os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return nil, fmt.Errorf("open the lock of labs: %w", err)
	}
	for {
		err = unix.Flock(int(f.Fd()), unix.LOCK_EX)
		if !errors.Is(err, unix.EINTR) {
			break
		}
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("lock %s: %w", f.Name(), err), f.Close())
	}
	return func() { _ = f.Close() }, nil // closing a file that was not written cannot lose anything
}

// errLocked says that a lab's owner is alive.
var errLocked = errors.New("its program is running")

// tryLock takes a lab's lock, which is free again as soon as its holder is
// closed or dead. errLocked if another program, or another lab value of this
// one, holds it.
func tryLock(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return nil, fmt.Errorf("open the lock of a lab: %w", err)
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		if errors.Is(err, unix.EWOULDBLOCK) {
			err = errLocked
		}
		return nil, errors.Join(fmt.Errorf("lock %s: %w", path, err), f.Close())
	}
	return f, nil
}
