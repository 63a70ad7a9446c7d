package lab

import (
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/mdlayher/arp"
	"github.com/mdlayher/ethernet"
	"github.com/mdlayher/ndp"
	"github.com/mdlayher/packet"
	"github.com/vishvananda/netlink"
)

const probeInterval = 5 * time.Millisecond

// vips are addresses that no host has at first, one of each family.
func vips() []netip.Addr {
	return []netip.Addr{netip.MustParseAddr("192.168.93.231"), netip.MustParseAddr("fd93::231")}
}

// setAddress gives an address to a host's kernel, or takes it away.
func setAddress(t *testing.T, h *Host, addr netip.Addr, has bool) {
	t.Helper()
	err := h.Do(func() error {
		link, err := netlink.LinkByName(h.Link())
		if err != nil {
			return err
		}
		set := netlink.AddrDel
		if has {
			set = netlink.AddrAdd
		}
		return set(link, &netlink.Addr{IPNet: ipNet(single(addr))})
	})
	if err != nil {
		t.Fatalf("change address %s of %s: %v", addr, h.Name(), err)
	}
}

// repliesOf is a condition: at least n replies of a host.
func repliesOf(host string, n int) func(Observations) bool {
	return func(seen Observations) bool {
		for _, o := range seen {
			if o.Kind == Reply && o.Host == host {
				n--
			}
		}
		return n <= 0
	}
}

func TestTheProberSeesTheKernelsAnswers(t *testing.T) {
	l := newLab(t, 1)
	ctx := testContext(t, patience)
	node := l.Node("n1")
	for _, addr := range []netip.Addr{node.Addr4(), node.Addr6()} {
		p, err := l.Probe(addr, probeInterval)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := p.Wait(ctx, func(seen Observations) bool { return len(seen.Replies()) >= 5 }); err != nil {
			t.Error(err)
		}
		seen, err := p.Stop()
		if err != nil {
			t.Error(err)
		}
		if len(seen) == 0 || seen[0].Kind != Request {
			t.Fatalf("first is no request:\n%v", seen)
		}
		for _, o := range seen {
			want := node
			if o.Kind == Request {
				want = l.Client()
			}
			if o.Addr != addr || o.Host != want.Name() || !slices.Equal(o.MAC, want.MAC()) {
				t.Errorf("%v, want address %s, host %s", o, addr, want.Name())
			}
			if age := time.Since(o.Time); age < 0 || age > patience {
				t.Errorf("%v is %s old", o, age)
			}
		}
		if n := len(seen.Handovers()); n != 0 {
			t.Errorf("%d handovers of an address that stays", n)
		}
	}
}

// oneMore is repliesOf for replies after those that were seen.
func oneMore(seen Observations, host string) func(Observations) bool {
	return func(now Observations) bool { return repliesOf(host, 1)(now[len(seen):]) }
}

func TestTheProberSeesAnAddressMove(t *testing.T) {
	l := newLab(t, 2)
	ctx := testContext(t, patience)
	n1, n2 := l.Node("n1"), l.Node("n2")
	for _, addr := range vips() {
		t.Run(addr.String(), func(t *testing.T) {
			p, err := l.Probe(addr, probeInterval)
			if err != nil {
				t.Fatal(err)
			}
			defer p.Stop() //nolint:errcheck // stopped again below
			wait := func(host string) {
				t.Helper()
				if _, err := p.Wait(ctx, oneMore(p.Seen(), host)); err != nil {
					t.Fatalf("%v\n%v", err, p.Seen())
				}
			}
			setAddress(t, n1, addr, true)
			wait("n1")
			setAddress(t, n1, addr, false)
			setAddress(t, n2, addr, true)
			wait("n2")
			seen := p.Seen()
			moves := seen.Handovers()
			if len(moves) != 1 || moves[0].From != "n1" || moves[0].To != "n2" || moves[0].Gap <= 0 {
				t.Errorf("handovers are %v, want n1 -> n2", moves)
			}
			if c := seen.Conflicts(patience); len(c) != 0 {
				t.Errorf("conflicts are %v, want none", c)
			}
			if silence := seen.LongestSilence(); silence < moves[0].Gap {
				t.Errorf("longest silence is %s, shorter than the handover's %s", silence, moves[0].Gap)
			}

			// Two owners: the kernel of n1 answers again.
			setAddress(t, n1, addr, true)
			wait("n1")
			wait("n2")
			if owners, err := l.Owner(ctx, addr); err != nil || !slices.Equal(owners, []string{"n1", "n2"}) {
				t.Errorf("owners are %v (%v), want n1 and n2", owners, err)
			}
			seen, err = p.Stop()
			if err != nil {
				t.Error(err)
			}
			if c := seen.Conflicts(patience); len(c) == 0 {
				t.Errorf("two hosts answer and there is no conflict:\n%v", seen)
			}
		})
	}
}

func TestTheRecorderSeesAnnouncements(t *testing.T) {
	l := newLab(t, 1)
	ctx := testContext(t, patience)
	node := l.Node("n1")
	r, err := l.Client().Record()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Stop() //nolint:errcheck // stopped again below
	onlyLast, err := l.Client().Record(vips()[1])
	if err != nil {
		t.Fatal(err)
	}
	defer onlyLast.Stop() //nolint:errcheck // stopped again below
	conn, err := node.openSender()
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	everybody := &packet.Addr{HardwareAddr: ethernet.Broadcast}
	for _, addr := range vips() {
		var frame []byte
		if addr.Is4() {
			frame = arpFrame(t, arp.OperationRequest, node.MAC(), addr.String(), addr.String())
		} else {
			frame = advertisement(t, node.MAC(), &ndp.NeighborAdvertisement{TargetAddress: addr})
		}
		if _, err := conn.WriteTo(frame, everybody); err != nil {
			t.Fatal(err)
		}
		if _, err := r.Wait(ctx, func(seen Observations) bool {
			return slices.Contains(seen.Announcements().About(addr).Owners(), "n1")
		}); err != nil {
			t.Errorf("announcement of %s: %v\n%v", addr, err, r.Seen())
		}
	}
	if _, err := r.Stop(); err != nil {
		t.Error(err)
	}
	if _, err := onlyLast.Wait(ctx, func(seen Observations) bool { return len(seen) > 0 }); err != nil {
		t.Error(err)
	}
	if seen, err := onlyLast.Stop(); err != nil || len(seen) != 1 || seen[0].Addr != vips()[1] {
		t.Errorf("a recorder of one address saw %v (%v)", seen, err)
	}
}

func TestOwnerOfAnAddressThatNobodyHas(t *testing.T) {
	l := newLab(t, 1)
	for _, addr := range vips() {
		if owners, err := l.Owner(testContext(t, patience), addr); err != nil || len(owners) != 0 {
			t.Errorf("owners of %s are %v (%v), want none", addr, owners, err)
		}
	}
}
