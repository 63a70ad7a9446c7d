package ipvs

import (
	"errors"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/fairway-lb/fairway/dataplane"
	"github.com/fairway-lb/fairway/dataplane/service"
	"github.com/fairway-lb/fairway/internal/netnstest"
)

// Every kind of set takes entries and gives them back.
func TestSets(t *testing.T) {
	netnstest.Need(t)
	s, err := dialIPSet()
	must(t, err)
	defer s.close()
	for _, f := range families {
		addr := netip.MustParseAddr("192.0.2.1")
		if f == service.IPv6 {
			addr = netip.MustParseAddr("2001:db8::1")
		}
		for kind := range setKinds {
			spec, name := sets[kind], setName(kind, f)
			must(t, s.create(name, spec, f))
			must(t, s.create(name, spec, f)) // it is there
			var want []element
			for port := range uint16(2*elementsPerMessage + 1) {
				x := element{entryKey: entryKey{set: kind, addr: addr, protocol: service.SCTP, port: port}}
				switch spec.typ {
				case hashIP, hashNet:
					b := addr.AsSlice()
					b[len(b)-1], b[len(b)-2] = byte(port), byte(port>>8)
					x.addr, _ = netip.AddrFromSlice(b)
					x.port, x.protocol = 0, 0
					if spec.typ == hashNet {
						x.source, x.addr = netip.PrefixFrom(x.addr, addr.BitLen()-int(port&1)).Masked(), netip.Addr{}
						if port&1 != 0 {
							continue
						}
					}
				case hashIPPortIP:
					x.source = netip.PrefixFrom(addr, addr.BitLen())
				case hashIPPortNet:
					x.source = netip.PrefixFrom(addr, 16).Masked()
				}
				if spec.marks {
					x.mark = markTag | uint32(port)
				}
				want = append(want, x)
			}
			compare := func(want []element) {
				t.Helper()
				got, err := s.list(name, kind)
				must(t, err)
				order := func(a, b element) int {
					return strings.Compare(a.text(), b.text())
				}
				slices.SortFunc(got, order)
				slices.SortFunc(want, order)
				if !slices.Equal(got, want) {
					t.Fatalf("%s: got %d entries %v...\nwant %d %v...", name, len(got), got[:min(2, len(got))], len(want), want[:min(2, len(want))])
				}
			}
			must(t, s.add(name, spec, want))
			compare(want)
			if spec.marks {
				want[0].mark++
			}
			must(t, s.add(name, spec, want[:1])) // again, with another mark
			compare(slices.Clone(want))
			must(t, s.del(name, spec, want[:5]))
			compare(slices.Clone(want[5:]))
			must(t, s.destroy(name))
			must(t, s.destroy(name))
			compare(nil)
		}
	}
	must(t, s.create("other", sets[podsSet], service.IPv4))
	if err := s.create("other", sets[dropSet], service.IPv4); !errors.Is(err, unix.EEXIST) {
		t.Errorf("a set of another type is taken for ours: %v", err)
	}
}

func (x element) text() string {
	return strings.Join([]string{x.addr.String(), x.source.String(), string(rune(x.port))}, " ")
}

// A kernel without IPVS says so, and what to use instead.
func TestKernelWithoutIPVS(t *testing.T) {
	netnstest.Need(t)
	b, err := New(dataplane.Config{}, Options{})
	if b != nil || !errors.Is(err, errMissing) || !strings.Contains(err.Error(), "use --dataplane=nftables or --dataplane=iptables instead: the kernel lacks IPVS (module ip_vs)") {
		t.Errorf("%v %v", b, err)
	}
	if _, err := New(dataplane.Config{LocalhostNodePorts: true}, Options{}); err == nil || !strings.Contains(err.Error(), "localhost") {
		t.Error(err)
	}
	if _, err := New(dataplane.Config{}, Options{Scheduler: "?"}); err == nil || !strings.Contains(err.Error(), "no IPVS scheduler") {
		t.Error(err)
	}
}
