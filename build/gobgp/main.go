// Command gobgp prepares a build of GoBGP that no neighbor can crash or fill, and
// that packs routes.
//
// GoBGP v3 decodes what neighbors send in goroutines of its own, where nobody
// else can recover: a malformed message ends the process. It also keeps every
// route that a neighbor announces, although this program uses none. And it sends
// an UPDATE for each route, and closes sessions in a way that can lose the Cease.
// Until a version of GoBGP does better, Fairway's programs are built with some of
// its functions wrapped: see guard.go.txt, pack.go.txt and cease.go.txt.
//
// Usage, in the repository's root: gobgp DIRECTORY. It copies GoBGP from the
// module cache into the directory, with the guard, and writes a go.mod and
// go.sum for go build's -modfile that use the copy. It fails if GoBGP is not as
// it expects it.
package main

import (
	"bytes"
	"embed"
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

const module = "github.com/osrg/gobgp/v3"

// added are the files that GoBGP's package server gets.
//
//go:embed guard.go.txt pack.go.txt cease.go.txt
var added embed.FS

// edit is a text of a file, how often it has it, and what it is to be.
type edit struct {
	file     string
	times    int
	old, new string
}

// edits make GoBGP use what is added.
var edits = []edit{
	{"pkg/server/fsm.go", 1, "func (h *fsmHandler) recvMessageWithError() (", "func (h *fsmHandler) recvUnguarded() ("},
	{"pkg/server/server.go", 1, "func (s *BgpServer) handleFSMMessage(", "func (s *BgpServer) handleUnguarded("},
	{"pkg/server/fsm.go", 1, "\tn := bgp.AddressFamilyNameMap[rf]\n", "\tn := bgp.AddressFamilyNameMap[rf]\n\th.unshare()\n"},
	{"pkg/server/server.go", 2, "p.fsm.pConf.GracefulRestart.State.LocalRestarting = false", "p.fsm.restarted()"},
	{"pkg/server/fsm.go", 1, "range table.CreateUpdateMsgFromPaths(m.Paths, options) {", "range h.pack(ctx, m, options) {"},
	{"pkg/server/fsm.go", 1, "\t\t\t\th.conn.Write(b)\n", "\t\t\t\th.cease(b)\n"},
	{"pkg/server/fsm.go", 1, "\tholdTimerResetCh chan bool\n", "\tholdTimerResetCh chan bool\n\tpacked           time.Time // when pack returned last\n"},
}

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: gobgp DIRECTORY")
		os.Exit(2)
	}
	if err := run(os.Args[1]); err != nil {
		fmt.Fprintln(os.Stderr, "gobgp:", err)
		os.Exit(1)
	}
}

func run(directory string) error {
	out, err := exec.Command("go", "mod", "download", "-json", module).Output()
	if err != nil {
		return fmt.Errorf("downloading %s: %w", module, err)
	}
	var source struct{ Dir string }
	if err := json.Unmarshal(out, &source); err != nil {
		return fmt.Errorf("finding %s in the module cache: %w", module, err)
	}
	copied := filepath.Join(directory, "gobgp")
	if err := copyModule(source.Dir, copied); err != nil {
		return fmt.Errorf("copying %s: %w", source.Dir, err)
	}
	for _, name := range []string{"guard.go", "pack.go", "cease.go"} {
		text, err := added.ReadFile(name + ".txt")
		if err != nil {
			return fmt.Errorf("reading what is added: %w", err)
		}
		if err := write(filepath.Join(copied, "pkg", "server", "fairway_"+name), text); err != nil {
			return err
		}
	}
	mod, err := os.ReadFile("go.mod")
	if err != nil {
		return fmt.Errorf("reading the project's go.mod: %w", err)
	}
	mod = fmt.Appendf(mod, "\nreplace %s => ./%s\n", module, filepath.ToSlash(copied))
	if err := write(filepath.Join(directory, "go.mod"), mod); err != nil {
		return err
	}
	sum, err := os.ReadFile("go.sum")
	if err != nil {
		return fmt.Errorf("reading the project's go.sum: %w", err)
	}
	return write(filepath.Join(directory, "go.sum"), sum)
}

// copyModule copies what a build of the module needs, edited.
func copyModule(from, to string) error {
	edited := 0
	err := filepath.WalkDir(from, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		name, err := filepath.Rel(from, path)
		if err != nil {
			return err
		}
		if strings.HasSuffix(name, "_test.go") || filepath.Ext(name) != ".go" && name != "go.mod" {
			return nil
		}
		content, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		for _, e := range edits {
			if e.file != filepath.ToSlash(name) {
				continue
			}
			if n := bytes.Count(content, []byte(e.old)); n != e.times {
				return fmt.Errorf("%s has %q %d times, want %d: look whether this version still needs the edit", name, e.old, n, e.times)
			}
			content = bytes.ReplaceAll(content, []byte(e.old), []byte(e.new))
			edited++
		}
		return write(filepath.Join(to, name), content)
	})
	if err == nil && edited != len(edits) {
		err = fmt.Errorf("%d of %d edits found their file", edited, len(edits))
	}
	return err
}

// write leaves a file alone that is as it should be: go build looks at its
// time.
func write(path string, content []byte) error {
	if old, err := os.ReadFile(path); err == nil && bytes.Equal(old, content) {
		return nil
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return fmt.Errorf("making a directory: %w", err)
	}
	if err := os.WriteFile(path, content, 0o644); err != nil {
		return fmt.Errorf("writing %s: %w", path, err)
	}
	return nil
}
