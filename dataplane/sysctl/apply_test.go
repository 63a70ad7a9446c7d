package sysctl

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
)

// guarded is files of which some cannot be written, or keep no value.
type guarded struct {
	directory
	refused   error // of all writes
	forgetful bool
	writes    int
}

func (g *guarded) write(path, value string) error {
	g.writes++
	if g.refused != nil {
		return &fs.PathError{Op: "open", Path: g.name(path), Err: g.refused}
	}
	if g.forgetful {
		return nil
	}
	return g.directory.write(path, value)
}

func TestApply(t *testing.T) {
	const forward, max, hash = "proc/sys/net/ipv4/ip_forward", "proc/sys/net/netfilter/nf_conntrack_max", "sys/module/nf_conntrack/parameters/hashsize"
	readOnly := errors.New("read-only file system")
	required := Setting{Path: forward, Value: 1, Required: true, Why: "pods wait"}
	room := Setting{Path: max, Value: 100, AtLeast: true, Why: "it is full", Module: "nf_conntrack"}
	buckets := Setting{Path: hash, Value: 25, AtLeast: true, Why: "it is slow", Module: "nf_conntrack"}
	for _, test := range []struct {
		name      string
		there     map[string]string
		settings  []Setting
		refused   error
		forgetful bool
		want      map[string]string // in the end, if not as before
		changed   []Change
		warnings  []string
		errors    []string
		writes    int
	}{
		{name: "all is right, and cannot be written", there: map[string]string{forward: "1\n", max: "100\n", hash: "26\n"},
			settings: []Setting{required, room, buckets}, refused: readOnly},
		{name: "more is not lowered", there: map[string]string{max: "1000\n"}, settings: []Setting{room}},
		{name: "more is not as good of others", there: map[string]string{forward: "2\n"}, settings: []Setting{required},
			want: map[string]string{forward: "1"}, changed: []Change{{"net.ipv4.ip_forward", 2, 1}}, writes: 1},
		{name: "or another value", there: map[string]string{forward: "2\n"},
			settings: []Setting{{Path: forward, Value: 1, Or: []int{2}}}, refused: readOnly},
		{name: "less is raised", there: map[string]string{forward: "0\n", max: "99\n", hash: "1\n"}, settings: []Setting{required, room, buckets},
			want: map[string]string{forward: "1", max: "100", hash: "25"}, writes: 3,
			changed: []Change{{"net.ipv4.ip_forward", 0, 1}, {"net.netfilter.nf_conntrack_max", 99, 100}, {"/" + hash, 1, 25}}},
		{name: "read-only", there: map[string]string{forward: "0\n", max: "99\n", hash: "1\n"}, settings: []Setting{required, room, buckets},
			refused: readOnly, writes: 3,
			errors: []string{"net.ipv4.ip_forward is 0 and should be 1, because pods wait: open ROOT/proc/sys/net/ipv4/ip_forward: read-only file system; " +
				"run the speaker privileged, or on the node: sysctl -w net.ipv4.ip_forward=1"},
			warnings: []string{"net.netfilter.nf_conntrack_max is 99 and should be at least 100, because it is full: open ROOT/" + max + ": read-only file system; " +
				"run the speaker privileged, or on the node: sysctl -w net.netfilter.nf_conntrack_max=100",
				"/" + hash + " is 1 and should be at least 25, because it is slow: open ROOT/" + hash + ": read-only file system; " +
					"run the speaker privileged, or on the node: echo 25 > /" + hash}},
		{name: "not kept", there: map[string]string{forward: "0\n"}, settings: []Setting{required}, forgetful: true, writes: 1,
			errors: []string{"net.ipv4.ip_forward is 0 and should be 1, because pods wait: written without an error, and read again it is still so; run"}},
		{name: "not there", settings: []Setting{required, room},
			errors:   []string{"net.ipv4.ip_forward should be 1, because pods wait: open ROOT/" + forward + ": no such file or directory; mount the file system"},
			warnings: []string{"net.netfilter.nf_conntrack_max should be at least 100, because it is full: open ROOT/" + max + ": no such file or directory; load the kernel module nf_conntrack on the node"}},
		{name: "garbage", there: map[string]string{forward: "yes\n", max: "1\n"}, settings: []Setting{required, room},
			errors: []string{`net.ipv4.ip_forward should be 1, because pods wait: read ROOT/` + forward + `: strconv.Atoi: parsing "yes": invalid syntax`},
			want:   map[string]string{max: "100"}, changed: []Change{{"net.netfilter.nf_conntrack_max", 1, 100}}, writes: 1},
		{name: "what does harm alone", there: map[string]string{forward: "0\n", max: "1\n"}, writes: 1,
			settings: []Setting{{Path: "proc/sys/a/b", Required: true, Why: "w"}, {Path: forward, Value: 1, Required: true, Needs: "proc/sys/a/b", Why: "x"},
				{Path: hash, Value: 1, Needs: forward, Why: "y"}, room},
			errors: []string{"a.b should be 0, because w: open ROOT/proc/sys/a/b: no such file",
				"net.ipv4.ip_forward should be 1, because x: a.b is not as it should be, and without it this one does harm; set that one first"},
			warnings: []string{"/" + hash + " should be 1, because y: net.ipv4.ip_forward is not as it should be"},
			want:     map[string]string{max: "100"}, changed: []Change{{"net.netfilter.nf_conntrack_max", 1, 100}}},
	} {
		t.Run(test.name, func(t *testing.T) {
			root := t.TempDir()
			for path, text := range test.there {
				put(t, root, path, text)
			}
			files := &guarded{directory: directory(root), refused: test.refused, forgetful: test.forgetful}
			result, err := apply(files, test.settings)
			if !reflect.DeepEqual(result.Changed, test.changed) || files.writes != test.writes {
				t.Errorf("changed is %+v with %d writes, want %+v with %d", result.Changed, files.writes, test.changed, test.writes)
			}
			var errs []error
			if joined, ok := err.(interface{ Unwrap() []error }); ok {
				errs = joined.Unwrap()
			}
			compare(t, root, "errors", errs, test.errors)
			compare(t, root, "warnings", result.Warnings, test.warnings)
			for path, before := range test.there {
				want, ok := test.want[path]
				if !ok {
					want = before
				}
				if got, err := os.ReadFile(filepath.Join(root, path)); err != nil || string(got) != want {
					t.Errorf("%s is %q, %v; want %q", path, got, err, want)
				}
			}
			if test.refused != nil && test.writes > 0 && !errors.Is(err, readOnly) {
				t.Errorf("the cause is not in %v", err)
			}
			if test.writes == 0 && err == nil { // by the name that others use
				if _, err := Apply(root, test.settings); err != nil {
					t.Error(err)
				}
			}
		})
	}
}

// compare looks whether each error begins as wanted.
func compare(t *testing.T, root, what string, got []error, want []string) {
	t.Helper()
	for i := range max(len(got), len(want)) {
		switch {
		case i >= len(got):
			t.Errorf("%s: no %q", what, want[i])
		case i >= len(want):
			t.Errorf("%s: also %q", what, got[i])
		default:
			if text := strings.ReplaceAll(got[i].Error(), root, "ROOT"); !strings.HasPrefix(text, want[i]) {
				t.Errorf("%s:\n%q\nwant\n%q", what, text, want[i])
			}
			var e *Error
			if !errors.As(got[i], &e) || !strings.HasPrefix(e.File, root) {
				t.Errorf("%s: %#v is not with its file", what, got[i])
			}
		}
	}
}

// What a kernel without IPv6 does not have is not missed, nor a link that has
// gone; what it has is set.
func TestWithoutIPv6(t *testing.T) {
	root := t.TempDir()
	put(t, root, "proc/sys/net/ipv4/ip_forward", "0\n")
	settings := Wanted(Node{Learned: []string{"eth0"}}, Options{IPv6: true})
	settings = slices.DeleteFunc(settings, func(s Setting) bool { return s.Module == "nf_conntrack" })
	result, err := Apply(root, settings)
	if err != nil || len(result.Changed) != 1 || len(result.Warnings) > 0 {
		t.Errorf("no IPv6: %+v, %v", result, err)
	}
	put(t, root, "proc/sys/net/ipv6/conf/all/forwarding", "0\n")
	result, err = Apply(root, settings)
	if err != nil || len(result.Changed) != 1 || result.Changed[0].Name != "net.ipv6.conf.all.forwarding" {
		t.Errorf("eth0 has gone: %+v, %v", result, err)
	}
}
