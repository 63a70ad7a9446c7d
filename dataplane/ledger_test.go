package dataplane

import (
	"net/netip"
	"slices"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/types"

	"github.com/fairway-lb/fairway/dataplane/service"
)

var (
	vip      = netip.MustParseAddr("192.0.2.1")
	otherVIP = netip.MustParseAddr("192.0.2.2")
	pod      = netip.MustParseAddrPort("10.0.0.1:80")
)

// book is a ledger with the time, and the changes that were made.
type book struct {
	t *testing.T
	*ledger
	now   time.Time
	ports map[string]*service.Port
}

func newBook(t *testing.T) *book {
	return &book{t, newLedger(NewReadiness()), time.Now(), map[string]*service.Port{}}
}

// port is one at some addresses, which forwards if it has endpoints.
func port(endpoints []netip.AddrPort, at ...netip.Addr) *service.Port {
	p := &service.Port{NeedsCluster: true, Cluster: endpoints, Usable: len(endpoints) > 0}
	for _, addr := range at {
		p.Frontends = append(p.Frontends, service.Frontend{Kind: service.LoadBalancer, Address: netip.AddrPortFrom(addr, 80)})
	}
	return p
}

var some, none = []netip.AddrPort{pod}, []netip.AddrPort(nil)

func named(name string) service.PortName {
	return service.PortName{NamespacedName: types.NamespacedName{Namespace: "default", Name: name}, Protocol: service.TCP}
}

// change sorts changes and makes those that are due.
func (b *book) change(changes map[string]*service.Port) (made, concerned []string, again time.Duration) {
	b.t.Helper()
	var list []service.PortChange
	for name, after := range changes {
		list = append(list, service.PortChange{Name: named(name), Before: b.ports[name], After: after})
		b.ports[name] = after
	}
	due, told, at := b.sort(list, b.now)
	told = append(told, b.made(due)...)
	for _, c := range due {
		made = append(made, c.Name.Name)
	}
	for _, name := range told {
		concerned = append(concerned, name.Name)
	}
	slices.Sort(made)
	slices.Sort(concerned)
	if !at.IsZero() {
		again = at.Sub(b.now)
	}
	return made, slices.Compact(concerned), again
}

func (b *book) expect(what string, changes map[string]*service.Port, made, concerned []string) {
	b.t.Helper()
	gotMade, gotConcerned, _ := b.change(changes)
	if !slices.Equal(gotMade, made) || !slices.Equal(gotConcerned, concerned) {
		b.t.Errorf("%s: made %v and told %v, want %v and %v", what, gotMade, gotConcerned, made, concerned)
	}
}

type ports = map[string]*service.Port

func TestAnnouncedOnlyWhileForwarded(t *testing.T) {
	b := newBook(t)
	may := func(what string, addr netip.Addr, want bool) {
		t.Helper()
		if got := b.readiness.Announce(addr); got != want {
			t.Errorf("%s: may be announced: %v", what, got)
		}
	}
	may("before anything", vip, false)
	b.expect("without endpoints", ports{"a": port(none, vip)}, []string{"a"}, nil)
	may("without endpoints", vip, false)
	b.expect("an endpoint", ports{"a": port(some, vip)}, []string{"a"}, []string{"a"})
	may("forwarded", vip, true)
	may("another one", otherVIP, false)
	b.expect("a second port", ports{"b": port(some, vip)}, []string{"b"}, nil)
	b.expect("the first port ends, the second goes on", ports{"a": nil}, []string{"a"}, nil)
	may("still forwarded", vip, true)
}

func TestWithdrawnBeforeUnprogrammed(t *testing.T) {
	b := newBook(t)
	b.change(ports{"a": port(some, vip), "c": port(some, otherVIP)})
	b.readiness.Announce(vip)
	b.expect("the last endpoint goes, and another port changes", ports{"a": port(none, vip), "c": port(none, otherVIP)}, []string{"c"}, []string{"a", "c"})
	if got := b.readiness.Retiring(); !slices.Equal(got, []netip.Addr{vip}) {
		t.Errorf("to be withdrawn: %v", got)
	}
	if b.readiness.Announce(vip) {
		t.Error("announced again while it ends")
	}
	b.expect("still announced", nil, nil, nil)
	b.readiness.Withdrawn(vip)
	b.now = time.Now()
	_, _, again := b.change(nil)
	if again <= 0 || again > withdrawalTime {
		t.Errorf("to come again in %v", again)
	}
	b.now = b.now.Add(withdrawalTime)
	b.expect("neighbors know", nil, []string{"a"}, []string{"a"})
	if b.readiness.Announce(vip) {
		t.Error("announced while it is not forwarded")
	}
}

// A neighbor may yet send what it sent just before the withdrawal.
func TestWithdrawnByItself(t *testing.T) {
	b := newBook(t)
	b.change(ports{"a": port(some, vip)})
	b.readiness.Announce(vip)
	b.readiness.Withdrawn(vip)
	b.now = time.Now()
	b.expect("at once", ports{"a": nil}, nil, []string{"a"})
	b.now = b.now.Add(withdrawalTime)
	b.expect("later", nil, []string{"a"}, []string{"a"})
}

func TestWithdrawalThatNeverComes(t *testing.T) {
	b := newBook(t)
	b.change(ports{"a": port(some, vip)})
	b.readiness.Announce(vip)
	b.expect("at first", ports{"a": nil}, nil, []string{"a"})
	b.now = b.now.Add(withdrawalTimeout)
	b.expect("in the end", nil, []string{"a"}, []string{"a"})
}

// What is as it was is no reason to withdraw, and whoever was told so is told
// again.
func TestEndpointComesBack(t *testing.T) {
	for _, test := range []struct {
		what  string
		after *service.Port
		made  []string
	}{
		{"the same", port(some, vip), nil},
		{"another", port([]netip.AddrPort{netip.MustParseAddrPort("10.0.0.2:80")}, vip), []string{"a"}},
	} {
		b := newBook(t)
		b.change(ports{"a": port(some, vip)})
		b.readiness.Announce(vip)
		b.change(ports{"a": port(none, vip)})
		b.readiness.Withdrawn(vip)
		b.expect(test.what, ports{"a": test.after}, test.made, []string{"a"})
		if !b.readiness.Announce(vip) {
			t.Errorf("%s: not announced again", test.what)
		}
		if len(b.parked) > 0 {
			t.Errorf("%s: %v is held back still", test.what, b.parked)
		}
	}
}

// A Service that takes over the address of another keeps it forwarded.
func TestAddressChangesHands(t *testing.T) {
	b := newBook(t)
	b.change(ports{"a": port(some, vip)})
	b.readiness.Announce(vip)
	b.expect("in one change", ports{"a": nil, "b": port(some, vip)}, []string{"a", "b"}, nil)
	b.expect("the other way, with an end", ports{"b": nil}, nil, []string{"b"})
	b.expect("a new one in the meantime", ports{"c": port(some, vip)}, []string{"b", "c"}, []string{"b", "c"})
	if !b.readiness.Announce(vip) {
		t.Error("not announced")
	}
}

// A Service gets the NodePort of another that was deleted, whose rules stay until
// its address is withdrawn: of two with one frontend, a kernel would refuse one.
func TestFrontendIsFreeFirst(t *testing.T) {
	b := newBook(t)
	nodePort := func(p *service.Port, number uint16) *service.Port {
		p.Frontends = append(p.Frontends, service.Frontend{Kind: service.NodePort, Address: netip.AddrPortFrom(netip.IPv4Unspecified(), number)})
		return p
	}
	b.change(ports{"old": nodePort(port(some, vip), 30001), "c": nodePort(port(some), 30003)})
	b.readiness.Announce(vip)
	b.expect("deleted, others begin", ports{"old": nil, "heir": nodePort(port(some, otherVIP), 30001), "other": nodePort(port(some), 30002)},
		[]string{"other"}, []string{"old"})
	b.expect("one that is to have what the heir has, when it has another", ports{"c": nodePort(port(some), 30001)}, nil, nil)
	b.expect("it takes it back", ports{"c": nodePort(port(some), 30003)}, nil, nil)
	b.readiness.Withdrawn(vip)
	b.now = time.Now().Add(withdrawalTime)
	b.expect("withdrawn", nil, []string{"heir", "old"}, []string{"heir", "old"})
}

// What the backend passes over is not forwarded.
func TestUnservedFamily(t *testing.T) {
	b := newBook(t)
	b.unserved[service.IPv4] = true
	b.change(ports{"a": port(some, vip)})
	if b.readiness.Announce(vip) {
		t.Error("announced")
	}
}

func TestNilReadiness(t *testing.T) {
	var r *Readiness
	r.Withdrawn(vip)
	if !r.Announce(vip) || !r.Fit() || r.Retiring() != nil {
		t.Error("a node without a dataplane is not free")
	}
}
