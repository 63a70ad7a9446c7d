package sysctl

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
)

// Node is what settings depend on of a node.
type Node struct {
	// CPUs are those that are online, all of the node's: its table of
	// connections is that of all, whatever CPUs this process may use.
	CPUs   int
	Kernel Version
	// Learned are the links that the node has a default route of IPv6 on which
	// a router has told it, sorted.
	Learned []string
}

// Version is that of a kernel.
type Version struct{ Major, Minor int }

func (v Version) atLeast(major, minor int) bool {
	return v.Major > major || v.Major == major && v.Minor >= minor
}

// ReadNode reads it from the files below root, which is "/" but in tests.
func ReadNode(root string) (Node, error) {
	var n Node
	var err error
	if n.CPUs, err = readCPUs(filepath.Join(root, "sys/devices/system/cpu/online")); err != nil {
		return n, fmt.Errorf("count the CPUs of the node: %w", err)
	}
	if n.Kernel, err = readVersion(filepath.Join(root, "proc/sys/kernel/osrelease")); err != nil {
		return n, fmt.Errorf("read the version of the kernel: %w", err)
	}
	// thread-self: that of the network namespace that the caller is in.
	if n.Learned, err = readLearned(filepath.Join(root, "proc/thread-self/net/ipv6_route")); err != nil {
		return n, fmt.Errorf("look for default routes of IPv6: %w", err)
	}
	return n, nil
}

// readCPUs counts a list as "0-3,6". Where /sys is not there, it is the CPUs of
// this process.
func readCPUs(file string) (count int, err error) {
	text, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		return runtime.NumCPU(), nil
	}
	if err != nil {
		return 0, err
	}
	for part := range strings.SplitSeq(strings.TrimSpace(string(text)), ",") {
		from, to, isRange := strings.Cut(part, "-")
		if !isRange {
			to = from
		}
		first, e1 := strconv.Atoi(from)
		last, e2 := strconv.Atoi(to)
		if err := errors.Join(e1, e2); err != nil || last < first || first < 0 {
			return 0, fmt.Errorf("%s: %q is no list of CPUs", file, text)
		}
		count += last - first + 1
	}
	return count, nil
}

// readVersion reads one as "6.1.0-18-amd64".
func readVersion(file string) (Version, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return Version{}, err
	}
	major, rest, _ := strings.Cut(string(text), ".")
	end := strings.IndexFunc(rest, func(r rune) bool { return r < '0' || r > '9' })
	if end < 0 {
		end = len(rest)
	}
	v := Version{}
	var e1, e2 error
	v.Major, e1 = strconv.Atoi(major)
	v.Minor, e2 = strconv.Atoi(rest[:end])
	if e1 != nil || e2 != nil {
		return Version{}, fmt.Errorf("%s: %q is no version", file, text)
	}
	return v, nil
}

// Flags of a route: by linux/ipv6_route.h, those that the kernel makes a
// default route with that a router has told it.
const learnedDefault = 0x00010000 | 0x00040000 // RTF_DEFAULT, RTF_ADDRCONF

// readLearned reads lines of ten words, of which the last two are the flags and
// the link. A kernel without IPv6 has no such file.
func readLearned(file string) (links []string, err error) {
	text, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	for line := range strings.Lines(string(text)) {
		words := strings.Fields(line)
		if len(words) != 10 {
			return nil, fmt.Errorf("%s: %q is no route", file, line)
		}
		flags, err := strconv.ParseUint(words[8], 16, 32)
		if err != nil {
			return nil, fmt.Errorf("%s: flags of a route: %w", file, err)
		}
		if flags&learnedDefault == learnedDefault {
			links = append(links, words[9])
		}
	}
	slices.Sort(links)
	return slices.Compact(links), err
}
