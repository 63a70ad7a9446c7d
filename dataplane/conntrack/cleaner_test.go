package conntrack

import (
	"errors"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

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

func (f *fake) dump(protocol service.Protocol, family service.Family, each func(found)) error {
	f.dumps++
	var err error
	if len(f.dumpErrs) > 0 {
		err, f.dumpErrs = f.dumpErrs[0], f.dumpErrs[1:]
	}
	for _, text := range f.entries {
		if e := entry(text); e.protocol == protocol && e.family() == family {
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

// newCleaner returns a Cleaner for a table.
func newCleaner(f *fake, nodePorts ...netip.Prefix) *Cleaner {
	c := NewCleaner(nodePorts)
	c.kernel = f
	return c
}

func TestClean(t *testing.T) {
	dns, dns6, web := name("dns", service.UDP, service.IPv4), name("dns", service.UDP, service.IPv6), name("web", service.TCP, service.IPv4)
	const stale, stale6, kept = "10.96.0.1:53 > 10.0.0.1:53", "[fd00::1]:53 > [fd01::1]:53", "10.96.0.1:53 > 10.0.0.2:53"
	odd := errors.New("odd")
	for _, test := range []struct {
		name         string
		changes      []any
		fake         fake
		dumps        int
		deleted      []string
		err          []string // in its text
		again        int      // dumps of a second call without changes
		deletedAgain []string
	}{
		{name: "nothing changed", fake: fake{entries: []string{stale}}},
		{name: "TCP changed", changes: []any{web, "10.96.0.1:53 > 10.0.0.2:53"}, fake: fake{entries: []string{stale, "SYN " + stale}}},
		{name: "one family", changes: []any{dns, "10.96.0.1:53 > 10.0.0.2:53"}, fake: fake{entries: []string{stale, stale6, kept}},
			dumps: 1, deleted: []string{stale}},
		{name: "without endpoints", changes: []any{dns, "10.96.0.1:53"}, fake: fake{entries: []string{stale}}},
		{name: "both, with many ports", changes: []any{dns, "10.96.0.1:53 10.96.0.2:53 node:30053 > 10.0.0.2:53", dns6, "[fd00::1]:53 > [fd01::2]:53"},
			fake: fake{entries: []string{stale, stale6, kept}}, dumps: 2, deleted: []string{stale, stale6}},
		{name: "interrupted", changes: []any{dns, "10.96.0.1:53 > 10.0.0.2:53"},
			fake:  fake{entries: []string{stale}, dumpErrs: []error{netlink.ErrDumpInterrupted, unix.EINTR}},
			dumps: 3, deleted: []string{stale}},
		{name: "interrupted for ever", changes: []any{dns, "10.96.0.1:53 > 10.0.0.2:53"},
			fake:  fake{entries: []string{stale}, dumpErrs: slices.Repeat([]error{netlink.ErrDumpInterrupted}, maxDumps)},
			dumps: maxDumps, deleted: []string{stale}, err: []string{"IPv4", "list the conntrack table"}, again: 1},
		{name: "ended by itself", changes: []any{dns, "10.96.0.1:53 > 10.0.0.2:53"},
			fake: fake{entries: []string{stale}, deleteErr: map[string]error{stale: unix.ENOENT}}, dumps: 1},
		{name: "not permitted", changes: []any{dns, "10.96.0.1:53 > 10.0.0.2:53", dns6, "[fd00::1]:53 > [fd01::2]:53"},
			fake:  fake{entries: []string{stale, "10.96.0.1:53", stale6}, deleteErr: map[string]error{stale: unix.EPERM, "10.96.0.1:53": unix.EPERM}},
			dumps: 2, deleted: []string{stale6}, err: []string{"IPv4", "10.96.0.1:53 by 10.0.0.1:53", "not permitted", "and 1 more"}, again: 1, deletedAgain: []string{stale, "10.96.0.1:53"}},
		{name: "no dump", changes: []any{dns, "10.96.0.1:53 > 10.0.0.2:53"},
			fake: fake{entries: nil, dumpErrs: []error{odd}}, dumps: 1, err: []string{"list the conntrack table: odd"}, again: 1},
		{name: "no addresses", changes: []any{dns, "node:30053 > 10.0.0.2:53", dns6, "[fd00::1]:53 > [fd01::2]:53"},
			fake:  fake{entries: []string{"192.0.2.1:30053", stale6}, localErr: odd},
			dumps: 1, deleted: []string{stale6}, err: []string{"own addresses: odd"}, again: 1, deletedAgain: []string{"192.0.2.1:30053"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			f := test.fake
			c := newCleaner(&f)
			_, err := c.Clean(world{}.set(test.changes...))
			if f.dumps != test.dumps || !slices.Equal(f.deleted, test.deleted) {
				t.Errorf("%d dumps, deleted %q; want %d, %q", f.dumps, f.deleted, test.dumps, test.deleted)
			}
			if (err != nil) != (len(test.err) > 0) {
				t.Errorf("error %v", err)
			}
			for _, part := range test.err {
				if err != nil && !strings.Contains(err.Error(), part) {
					t.Errorf("error %q does not say %q", err, part)
				}
			}
			for _, again := range []struct {
				dumps   int
				deleted []string
			}{{test.again, test.deletedAgain}, {0, nil}} {
				f.deleteErr, f.localErr, f.dumps, f.deleted = nil, nil, 0, nil
				if _, err := c.Clean(nil); err != nil || f.dumps != again.dumps || !slices.Equal(f.deleted, again.deleted) {
					t.Errorf("a further call: %d dumps, deleted %q, error %v; want %d, %q", f.dumps, f.deleted, err, again.dumps, again.deleted)
				}
			}
		})
	}
}

// TestRestart has a process begin where another ended: what went stale in the
// meantime is found by the first call.
func TestRestart(t *testing.T) {
	dns, app, web := name("dns", service.UDP, service.IPv4), name("app", service.UDP, service.IPv4), name("web", service.TCP, service.IPv4)
	const stale, kept = "10.96.0.1:53 > 10.0.0.9:53", "10.96.0.1:53 > 10.0.0.1:53"
	const abandoned, connected = "SYN 10.96.0.3:80 > 10.0.0.9:80", "TCP 10.96.0.3:80 > 10.0.0.9:80"
	w, f := world{}, &fake{entries: []string{stale, kept, "192.0.2.1:30053", "10.96.0.9:53", abandoned, connected}}
	c, now := newCleaner(f), time.Now()
	c.now = func() time.Time { return now }
	for _, step := range []struct {
		name    string
		after   time.Duration
		changes []service.PortChange
		appears []string
		dumps   int
		deleted []string
		again   bool
	}{
		{name: "the first call has all ports", changes: w.set(dns, "10.96.0.1:53 node:30053 > 10.0.0.1:53", app, "10.96.0.2:53 > 10.0.0.2:53", web, "10.96.0.3:80 > 10.0.0.3:80"),
			dumps: 1, deleted: []string{stale, "192.0.2.1:30053"}, again: true},
		{name: "connections", after: answerTime, dumps: 1, deleted: []string{abandoned}},
		{name: "nothing"},
		{name: "a change of another port", changes: w.set(app, "10.96.0.2:53 > 10.0.0.3:53"), appears: []string{stale}, dumps: 1},
		{name: "nothing again", after: time.Hour},
	} {
		now = now.Add(step.after)
		f.dumps, f.deleted, f.entries = 0, nil, append(f.entries, step.appears...)
		if again, err := c.Clean(step.changes); err != nil || f.dumps != step.dumps || !slices.Equal(f.deleted, step.deleted) || again.After(now) != step.again {
			t.Errorf("%s: %d dumps, deleted %q, again in %v, error %v; want %d, %q, again: %v", step.name, f.dumps, f.deleted, again.Sub(now), err, step.dumps, step.deleted, step.again)
		}
	}
	if want := []string{kept, "10.96.0.9:53", connected, stale}; !slices.Equal(f.entries, want) {
		t.Errorf("left are %q, want %q", f.entries, want)
	}
}

// TestCost changes one of many UDP ports. The others are poisoned, so that who
// visits them fails, and the work is that of one among few.
func TestCost(t *testing.T) {
	cost := func(ports int) float64 {
		f := &fake{}
		c := newCleaner(f)
		all := many(ports)
		if _, err := c.Clean(all); err != nil {
			t.Fatal(err)
		}
		x := c.indexes[service.UDP][service.IPv4]
		mine := all[ports/2]
		for at, o := range x.owners {
			if o.name != mine.Name {
				x.owners[at] = nil
			}
		}
		for i := range all {
			*all[i].After = service.Port{}
		}
		one, two := port("10.96.255.1:53 node:19999 > 10.0.0.1:53"), port("10.96.255.1:53 node:19999 > 10.0.0.2:53")
		if _, err := c.Clean([]service.PortChange{{Name: mine.Name, After: one}}); err != nil {
			t.Fatal(err)
		}
		swap := []service.PortChange{{Name: mine.Name, Before: one, After: two}}
		return testing.AllocsPerRun(100, func() {
			if _, err := c.Clean(swap); err != nil {
				t.Fatal(err)
			}
			swap[0].Before, swap[0].After = swap[0].After, swap[0].Before
		})
	}
	few, lots := cost(10), cost(10_000)
	if few != lots {
		t.Errorf("%v allocations among 10 ports, %v among 10,000", few, lots)
	}
}

// TestLife lives through random changes with flows that come as the rules of
// the moment say. After each, exactly those are gone that would not be made so
// any more.
func TestLife(t *testing.T) {
	addresses := []string{"10.96.0.1:53", "10.96.0.2:53", "192.0.2.1:30053", "203.0.113.1:53", "node:30053", "node:30054"}
	destinations := append(addresses[:4:4], "192.0.2.1:30054", "127.0.0.1:30053", "192.0.2.7:30053", "10.96.0.9:53")
	for seed := range uint64(20) {
		random := rand.New(rand.NewPCG(seed, 0))
		w, f := world{}, &fake{}
		c := newCleaner(f)
		for step := range 200 {
			var changes []service.PortChange
			for range 1 + random.IntN(3) { // rounds told at once
				round := randomRound(random, w, addresses)
				random.Shuffle(len(round), func(i, j int) { round[i], round[j] = round[j], round[i] })
				changes = append(changes, round...)
			}
			var want []string
			for _, text := range f.entries {
				if !misled(w, text) {
					want = append(want, text)
				}
			}
			if _, err := c.Clean(changes); err != nil {
				t.Fatal(err)
			}
			if !slices.Equal(f.entries, want) {
				t.Fatalf("seed %d, step %d: left are %q, want %q, of %v", seed, step, f.entries, want, w)
			}
			frontends, nodePorts := 0, 0
			for _, p := range w {
				frontends += len(p.Frontends)
				nodePorts += len(slices.DeleteFunc(slices.Clone(p.Frontends), func(f service.Frontend) bool { return f.Kind != service.NodePort }))
			}
			if x := c.indexes[service.UDP][service.IPv4]; len(x.owners) != frontends || x.nodePorts != nodePorts || len(x.changed)+len(x.searched) > 0 {
				t.Fatalf("seed %d, step %d: the index has %d frontends, %d node ports, %d changed; want %d, %d, none", seed, step, len(x.owners), x.nodePorts, len(x.changed), frontends, nodePorts)
			}
			for range random.IntN(4) {
				to := destinations[random.IntN(len(destinations))]
				if o := leadsTo(w, to); o != nil && len(o.Serving) > 0 {
					to += " > " + o.Serving[random.IntN(len(o.Serving))].String()
				}
				if !slices.Contains(f.entries, to) {
					f.entries = append(f.entries, to)
				}
			}
		}
	}
}

// randomRound deals addresses out to three Services anew and gives some of
// those other endpoints.
func randomRound(random *rand.Rand, w world, addresses []string) []service.PortChange {
	dealt := map[string]string{}
	for _, at := range addresses {
		owner := string(rune('a' + random.IntN(4))) // d gets nothing
		for n, p := range w {
			if random.IntN(3) > 0 && slices.Equal(port(at).Frontends, slices.DeleteFunc(slices.Clone(p.Frontends), func(f service.Frontend) bool { return f != port(at).Frontends[0] })) {
				owner = n.Name
			}
		}
		dealt[owner] += at + " "
	}
	var changes []any
	for _, of := range []string{"a", "b", "c"} {
		n := name(of, service.UDP, service.IPv4)
		text := dealt[of]
		if text != "" && random.IntN(4) > 0 {
			text += "> " + []string{"10.0.0.1:53", "10.0.0.2:53", "10.0.0.3:53", "10.0.0.1:53 10.0.0.2:53"}[random.IntN(4)]
		}
		if text == "" && w[n] == nil {
			continue
		}
		changes = append(changes, n, text)
	}
	return w.set(changes...)
}

// leadsTo returns the port that a destination leads to, or nil.
func leadsTo(w world, to string) *service.Port {
	at := netip.MustParseAddrPort(to)
	for _, frontend := range []netip.AddrPort{at, netip.AddrPortFrom(netip.IPv4Unspecified(), at.Port())} {
		if frontend != at && !own.has(at.Addr()) {
			return nil
		}
		for _, p := range w {
			if slices.ContainsFunc(p.Frontends, func(f service.Frontend) bool { return f.Address == frontend }) {
				return p
			}
		}
	}
	return nil
}

// misled tells whether an entry leads elsewhere than it should.
func misled(w world, text string) bool {
	e := entry(text)
	o := leadsTo(w, e.destination.String())
	return o != nil && len(o.Serving) > 0 && !slices.Contains(o.Serving, e.replySource)
}

// TestNodePortAddresses has the node serve node ports on some addresses only:
// the others are its own programs'.
func TestNodePortAddresses(t *testing.T) {
	f := &fake{entries: []string{"192.0.2.1:30053", "127.0.0.1:30053", "127.0.0.2:30053", "10.96.0.1:53", "203.0.113.1:30053"}}
	c := newCleaner(f, netip.MustParsePrefix("127.0.0.1/32"), netip.MustParsePrefix("203.0.113.0/24"), netip.MustParsePrefix("2001:db8::/64"))
	w := world{}
	_, err := c.Clean(w.set(name("dns", service.UDP, service.IPv4), "10.96.0.1:53 node:30053 > 10.0.0.1:53"))
	if want := []string{"127.0.0.1:30053", "10.96.0.1:53"}; err != nil || !slices.Equal(f.deleted, want) {
		t.Errorf("deleted %q, want %q (error %v)", f.deleted, want, err)
	}
	c.nodePorts = []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}
	_, err = c.Clean(w.set(name("dns", service.UDP, service.IPv4), "10.96.0.1:53 node:30053 > 10.0.0.2:53"))
	if err != nil || len(f.deleted) != 3 || f.deleted[2] != "192.0.2.1:30053" {
		t.Errorf("deleted %q (error %v)", f.deleted, err)
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte{2, 0, 0, 0, 8, 0, 1, 0, 1, 2, 3, 4})
	f.Add([]byte{2, 0, 0, 0, 0, 0, 1, 0})
	f.Fuzz(func(t *testing.T, message []byte) {
		if found, err := parse(message); err == nil && (!found.source.IsValid() || !found.replySource.IsValid() || len(found.key) == 0) {
			t.Errorf("%v is read from %x", found, message)
		}
	})
}
