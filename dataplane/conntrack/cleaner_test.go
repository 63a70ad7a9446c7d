package conntrack

import (
	"errors"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/fairway-lb/fairway/dataplane/service"
)

// fake is a table whose dumps end as they are told to.
type fake struct {
	entries   []string
	dumpErrs  []error // of the next dumps
	deleteErr map[string]error
	localErr  error
	dumps     int
	deleted   []string
}

func (f *fake) dump(family service.Family, each func(found)) error {
	f.dumps++
	var err error
	if len(f.dumpErrs) > 0 {
		err, f.dumpErrs = f.dumpErrs[0], f.dumpErrs[1:]
	}
	for _, text := range f.entries {
		if e := entry(text); familyOf(e.Source.Addr()) == family {
			each(found{e, []byte(text)})
		}
	}
	return err
}

func (f *fake) delete(entry found) error {
	if err := f.deleteErr[string(entry.key)]; err != nil {
		return err
	}
	f.deleted = append(f.deleted, string(entry.key))
	f.entries = slices.DeleteFunc(f.entries, func(text string) bool { return text == string(entry.key) })
	return nil
}

func (f *fake) local(service.Family) ([]netip.Prefix, error) { return local, f.localErr }

func TestClean(t *testing.T) {
	dns, dns6, web := name("dns", service.UDP, service.IPv4), name("dns", service.UDP, service.IPv6), name("web", service.TCP, service.IPv4)
	const stale, stale6, kept = "10.96.0.1:53 > 10.0.0.1:53", "[fd00::1]:53 > [fd01::1]:53", "10.96.0.1:53 > 10.0.0.2:53"
	odd := errors.New("odd")
	for _, test := range []struct {
		name     string
		changes  []any
		fake     fake
		dumps, n int
		deleted  []string
		err      []string // in its text
		again    int      // what a second call without changes deletes
	}{
		{name: "nothing changed", fake: fake{entries: []string{stale}}},
		{name: "TCP changed", changes: []any{web, "10.96.0.1:53 > 10.0.0.2:53"}, fake: fake{entries: []string{stale}}},
		{name: "one family", changes: []any{dns, "10.96.0.1:53 > 10.0.0.2:53"}, fake: fake{entries: []string{stale, stale6, kept}},
			dumps: 1, n: 1, deleted: []string{stale}},
		{name: "both, with many ports", changes: []any{dns, "10.96.0.1:53 10.96.0.2:53 node:30053 > 10.0.0.2:53", dns6, "[fd00::1]:53 > [fd01::2]:53"},
			fake: fake{entries: []string{stale, stale6, kept}}, dumps: 2, n: 2, deleted: []string{stale, stale6}},
		{name: "interrupted", changes: []any{dns, "10.96.0.1:53 > 10.0.0.2:53"},
			fake:  fake{entries: []string{stale}, dumpErrs: []error{netlink.ErrDumpInterrupted, unix.EINTR}},
			dumps: 3, n: 1, deleted: []string{stale}},
		{name: "interrupted for ever", changes: []any{dns, "10.96.0.1:53 > 10.0.0.2:53"},
			fake:  fake{entries: []string{stale}, dumpErrs: slices.Repeat([]error{netlink.ErrDumpInterrupted}, maxDumps)},
			dumps: maxDumps, n: 1, deleted: []string{stale}, err: []string{"IPv4", "list the conntrack table"}},
		{name: "ended by itself", changes: []any{dns, "10.96.0.1:53 > 10.0.0.2:53"},
			fake: fake{entries: []string{stale}, deleteErr: map[string]error{stale: unix.ENOENT}}, dumps: 1},
		{name: "not permitted", changes: []any{dns, "10.96.0.1:53 > 10.0.0.2:53", dns6, "[fd00::1]:53 > [fd01::2]:53"},
			fake:  fake{entries: []string{stale, "10.96.0.1:53", stale6}, deleteErr: map[string]error{stale: unix.EPERM, "10.96.0.1:53": unix.EPERM}},
			dumps: 2, n: 1, deleted: []string{stale6}, err: []string{"IPv4", "10.96.0.1:53 by 10.0.0.1:53", "not permitted", "and 1 more"}, again: 2},
		{name: "no dump", changes: []any{dns, "10.96.0.1:53 > 10.0.0.2:53"},
			fake: fake{entries: nil, dumpErrs: []error{odd}}, dumps: 1, err: []string{"list the conntrack table: odd"}},
		{name: "no addresses", changes: []any{dns, "node:30053 > 10.0.0.2:53"},
			fake: fake{entries: []string{"192.0.2.1:30053"}, localErr: odd}, err: []string{"own addresses: odd"}, again: 1},
	} {
		t.Run(test.name, func(t *testing.T) {
			w, f := world{}, test.fake
			c := &Cleaner{kernel: &f, pending: concern{}}
			n, err := c.Clean(w.set(test.changes...), w.ports())
			if n != test.n || f.dumps != test.dumps || !slices.Equal(f.deleted, test.deleted) {
				t.Errorf("%d dumps, %d deleted: %q; want %d, %d, %q", f.dumps, n, f.deleted, test.dumps, test.n, test.deleted)
			}
			if (err != nil) != (len(test.err) > 0) {
				t.Errorf("error %v", err)
			}
			for _, part := range test.err {
				if err != nil && !strings.Contains(err.Error(), part) {
					t.Errorf("error %q does not say %q", err, part)
				}
			}
			f.deleteErr, f.localErr, f.dumps = nil, nil, 0
			n, err = c.Clean(nil, w.ports())
			if n != test.again || err != nil {
				t.Errorf("the next call deletes %d: %v", n, err)
			}
			if len(test.err) == 0 && f.dumps > 0 {
				t.Error("the next call dumps again")
			}
		})
	}
}

// TestNodePortAddresses has the node serve node ports on some addresses only:
// the others are its own programs'.
func TestNodePortAddresses(t *testing.T) {
	f := &fake{entries: []string{"192.0.2.1:30053", "127.0.0.1:30053", "127.0.0.2:30053", "10.96.0.1:53", "203.0.113.1:30053"}}
	c := &Cleaner{kernel: f, pending: concern{}, nodePorts: []netip.Prefix{
		netip.MustParsePrefix("127.0.0.1/32"), netip.MustParsePrefix("203.0.113.0/24"), netip.MustParsePrefix("2001:db8::/64"),
	}}
	w := world{}
	n, err := c.Clean(w.set(name("dns", service.UDP, service.IPv4), "10.96.0.1:53 node:30053 > 10.0.0.1:53"), w.ports())
	if want := []string{"127.0.0.1:30053", "10.96.0.1:53"}; err != nil || n != 2 || !slices.Equal(f.deleted, want) {
		t.Errorf("deleted %q, want %q (error %v)", f.deleted, want, err)
	}
	c.nodePorts = []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}
	n, err = c.Clean(w.set(name("dns", service.UDP, service.IPv4), "10.96.0.1:53 node:30053 > 10.0.0.2:53"), w.ports())
	if err != nil || n != 1 || f.deleted[2] != "192.0.2.1:30053" {
		t.Errorf("deleted %q (error %v)", f.deleted, err)
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte{2, 0, 0, 0, 8, 0, 1, 0, 1, 2, 3, 4})
	f.Add([]byte{2, 0, 0, 0, 0, 0, 1, 0})
	f.Fuzz(func(t *testing.T, message []byte) {
		if found, err := parse(message); err == nil && (!found.Source.IsValid() || !found.ReplySource.IsValid() || len(found.key) == 0) {
			t.Errorf("%v is read from %x", found, message)
		}
	})
}
