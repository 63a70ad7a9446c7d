package iptables

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/fairway-lb/fairway/dataplane/service"
)

const (
	// lockWait bounds how long a program waits for others that hold the lock.
	lockWait = 5 * time.Second
	// patience ends a program that hangs. Ten thousand Services take seconds.
	patience = 2 * time.Minute
	// exitResource is how iptables programs end that do not get the lock.
	exitResource = 4
)

// errLocked is the lock of all programs of flavour legacy, which another one
// holds.
var errLocked = errors.New("another process holds the xtables lock (/run/xtables.lock)")

// tool runs the programs of a flavour and family.
type tool struct {
	flavour               Flavour
	family                service.Family
	restorePath, savePath string
	own                   *ownProcesses // may be nil
	fed                   int           // lines, for tests
}

// save hands on what is listed of all tables: also what comes before an error.
func (t *tool) save(to taker) error {
	return t.read(func(saved io.Reader) error { return parse(saved, to) })
}

// read has the text of all tables read, as it is printed.
func (t *tool) read(take func(io.Reader) error) error { return t.run(t.savePath, "", take) }

// restore makes a change of one or several tables, each of which the kernel
// takes as a whole or not at all.
func (t *tool) restore(input string) error {
	t.fed += strings.Count(input, "\n")
	return t.run(t.restorePath, input, nil, "--noflush", "-w", strconv.Itoa(int(lockWait/time.Second)))
}

// run returns when the program has ended and take, if not nil, has read what it
// printed.
func (t *tool) run(path, input string, take func(io.Reader) error, args ...string) error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, path, args...)
	var stderr bytes.Buffer
	cmd.Stdin, cmd.Stderr = strings.NewReader(input), &stderr
	var out io.Reader
	var err error
	if take != nil {
		out, err = cmd.StdoutPipe()
	}
	if err == nil {
		err = t.own.start(cmd)
	}
	if err == nil {
		var reading error
		if take != nil {
			reading = take(out)
		}
		if err = cmd.Wait(); err == nil { // who was not read to the end says so
			err = reading
		}
	}
	if err == nil {
		return nil
	}
	if ctx.Err() != nil {
		err = fmt.Errorf("not done after %v", patience)
	}
	var exit *exec.ExitError
	if errors.As(err, &exit) && exit.ExitCode() == exitResource && strings.Contains(stderr.String(), "lock") {
		return fmt.Errorf("%s: %w, for more than %v", path, errLocked, lockWait)
	}
	return fmt.Errorf("%s: %w: %s", path, err, explain(stderr.String(), input))
}

// lineNumber is how all programs name the line that they do not like: "line 3
// failed", "Error occurred at line: 3".
var lineNumber = regexp.MustCompile(`\bline:? (\d+)`)

// explain joins what a program said with the lines that it was about.
func explain(stderr, input string) string {
	said := strings.Join(strings.FieldsFunc(stderr, func(r rune) bool { return r == '\n' }), "; ")
	lines := strings.Split(input, "\n")
	for _, found := range lineNumber.FindAllStringSubmatch(stderr, 3) {
		if n, err := strconv.Atoi(found[1]); err == nil && n >= 1 && n <= len(lines) {
			said += fmt.Sprintf("; line %d is %q", n, lines[n-1])
		}
	}
	return said
}

// ownProcesses remembers the last programs that were run: by their process id,
// which is their netlink port too, the news of their work is told from that of
// others.
type ownProcesses struct {
	mu   sync.Mutex
	last [64]uint32
	next int
}

func (o *ownProcesses) start(cmd *exec.Cmd) error {
	if o == nil {
		return cmd.Start()
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	if err := cmd.Start(); err != nil {
		return err
	}
	o.last[o.next] = uint32(cmd.Process.Pid)
	o.next = (o.next + 1) % len(o.last)
	return nil
}

func (o *ownProcesses) has(pid uint32) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, p := range o.last {
		if p == pid {
			return true
		}
	}
	return false
}
