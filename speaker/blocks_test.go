package speaker

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/fairway-lb/fairway/api/v1alpha2"
	"github.com/fairway-lb/fairway/speaker/layer2"
	"github.com/fairway-lb/fairway/speaker/plan"
)

// spec is a layer2 Eip with these blocks and, after a "-", those excluded.
func spec(entries ...string) v1alpha2.EipSpec {
	s := v1alpha2.EipSpec{Protocol: v1alpha2.ProtocolLayer2, Interface: "eth33", Address: entries[0]}
	target := &s.Addresses
	for _, entry := range entries[1:] {
		if entry == "-" {
			target = &s.Exclude
			continue
		}
		*target = append(*target, v1alpha2.PoolAddress(entry))
	}
	return s
}

func TestReadSpace(t *testing.T) {
	for _, test := range []struct {
		name   string
		spec   v1alpha2.EipSpec
		blocks []string // each with what is left of it, if that is not all
		faults string
	}{
		{"one block", spec("192.168.93.0/24"), []string{"192.168.93.0/24"}, ""},
		{"of both families", spec("192.168.93.1", "fd93::1-fd93::9"), []string{"192.168.93.1", "fd93::1-fd93::9"}, ""},
		{"twice the same, spelled in two ways", spec("10.0.0.0/30", "10.0.0.0-10.0.0.3"), []string{"10.0.0.0/30"}, ""},
		{"a hole", spec("10.0.0.1-10.0.0.9", "-", "10.0.0.4"), []string{"10.0.0.1-10.0.0.9 [10.0.0.1-10.0.0.3 10.0.0.5-10.0.0.9]"}, ""},
		{"a block that is gone", spec("10.0.0.1", "10.0.1.1", "-", "10.0.0.0/24"), []string{"10.0.1.1"}, ""},
		{"nothing left", spec("10.0.0.1", "-", "0.0.0.0/0"), nil, ""},
		{"typos", spec("10.0.0.1", "10.0.0.x", "10.0.0.2", "-", "10.0.0.2", "y"), []string{"10.0.0.1"},
			`spec.addresses[0] "10.0.0.x": invalid eip address format; spec.exclude[1] "y": invalid eip address format`},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := readSpace("pool", &test.spec)
			var blocks []string
			for _, b := range s.blocks {
				text := b.text
				if len(b.parts) != 1 || b.parts[0] != b.IPRange {
					text = fmt.Sprint(text, " ", b.parts)
				}
				blocks = append(blocks, text)
			}
			if !slices.Equal(blocks, test.blocks) || strings.Join(s.faults, "; ") != test.faults {
				t.Errorf("blocks %q, faults %q, want %q, %q", blocks, s.faults, test.blocks, test.faults)
			}
			if want, err := test.spec.AddressSet(); err == nil && !s.set.Equal(want) {
				t.Errorf("contains %v, want %v", s.set.Ranges(), want.Ranges())
			}
		})
	}
}

// judged is a pool on a link in 192.168.93.0/24 and fd93::/64.
func judged(s v1alpha2.EipSpec, err error) *pool {
	p := &pool{Pool: plan.Pool{Name: "pool", Protocol: s.Protocol}, space: readSpace("pool", &s), offSubnet: s.AllowOffSubnet}
	link, _ := onLAN("eth33")
	p.judge(link, err)
	return p
}

func TestJudge(t *testing.T) {
	const remedy = ": give the interface an address there, or set spec.allowOffSubnet if the network delivers these addresses on that link"
	const off = ": in no subnet of interface eth33, which has 192.168.93.0/24" + remedy
	for _, test := range []struct {
		name    string
		spec    v1alpha2.EipSpec
		scopes  []string
		refusal string
	}{
		{"all of it", spec("192.168.93.0/25", "192.168.93.128/25", "fd93::/120"), []string{"pool"}, ""},
		{"one block that is off", spec("10.0.0.0/24"), nil, "10.0.0.0/24" + off},
		{"one of two", spec("192.168.93.1", "10.0.0.0/24"), []string{"pool 192.168.93.1-192.168.93.1"}, "10.0.0.0/24" + off + "; it can announce the Eip's other addresses"},
		{"some of one cause", spec("10.0.0.1", "10.0.0.2", "10.0.0.3", "10.0.0.4", "10.0.0.5", "10.0.0.6"), nil, "10.0.0.1, 10.0.0.2, 10.0.0.3, 10.0.0.4 and 2 more" + off},
		{"of two causes", spec("10.0.0.1", "fd94::1"), nil, "10.0.0.1" + off + "; and fd94::1: in no subnet of interface eth33, which has fd93::/64, fe80::/64" + remedy},
		{"what is off is excluded", spec("192.168.92.0/23", "-", "192.168.92.0/24"), []string{"pool"}, ""},
		{"a typo takes nothing away", spec("192.168.93.1", "x"), []string{"pool"}, `spec.addresses[0] "x": invalid eip address format; it can announce the Eip's other addresses`},
		{"nothing but a typo", spec("x"), nil, `spec.address "x": invalid eip address format`},
	} {
		t.Run(test.name, func(t *testing.T) {
			p := judged(test.spec, nil)
			if p.refusal != test.refusal || !slices.Equal(p.scopes(), test.scopes) {
				t.Errorf("serves %q, refusal %q, want %q, %q", p.scopes(), p.refusal, test.scopes, test.refusal)
			}
		})
	}
	p := judged(spec("192.168.93.1", "fd93::1"), errors.New("no such interface"))
	if want := "the Eip's addresses: no such interface"; p.refusal != want || len(p.scopes()) > 0 {
		t.Errorf("serves %q, refusal %q, want %q", p.scopes(), p.refusal, want)
	}
}

// Speakers whose looks at an Eip differ for a moment, because a block came or
// went, agree about the others.
func TestScopesAcrossAChange(t *testing.T) {
	one, two := judged(spec("192.168.93.1"), nil), judged(spec("192.168.93.1", "10.0.0.1"), nil)
	addr := netip.MustParseAddr("192.168.93.1")
	for name, pair := range map[string][2]*pool{"grown": {one, two}, "shrunk": {two, one}} {
		says := pair[0].scopes()
		accepts, _ := pair[1].block(addr)
		if !slices.ContainsFunc(accepts, func(scope string) bool { return slices.Contains(says, scope) }) {
			t.Errorf("%s: a speaker says %q, another accepts %q", name, says, accepts)
		}
	}
}

func TestOverlappingBlocks(t *testing.T) {
	p := judged(spec("192.168.92.0/23", "192.168.93.0/24"), nil)
	for addr, served := range map[string]bool{"192.168.92.1": false, "192.168.93.1": true} {
		scopes, link := p.block(netip.MustParseAddr(addr))
		says := slices.ContainsFunc(scopes, func(scope string) bool { return slices.Contains(p.scopes(), scope) })
		if says != served || (link != "") != served {
			t.Errorf("%s: announced on %q, said to be served: %v, want %v", addr, link, says, served)
		}
	}
}

func TestWhichEip(t *testing.T) {
	all := &pools{named: map[string]*pool{}}
	for _, p := range []struct{ name, address string }{{"a", "10.0.0.0/24"}, {"b", "10.0.0.0/16"}, {"c", "fd93::/64"}} {
		s := spec(p.address)
		all.named[p.name] = &pool{Pool: plan.Pool{Name: p.name}, space: readSpace(p.name, &s), link: layer2.Link{}}
		all.sorted = append(all.sorted, all.named[p.name])
	}
	for _, test := range []struct{ name, label, addr, want string }{
		{"the label's", "a", "10.0.0.1", "a"},
		{"the label's, of two that overlap", "b", "10.0.0.1", "b"},
		{"another's, the second family", "a", "fd93::1", "c"},
		{"another's, the first by name", "c", "10.0.0.1", "a"},
		{"another's, the only one", "c", "10.0.1.1", "b"},
		{"nobody's", "a", "192.168.93.1", "a"},
		{"the label's Eip is gone, another has it", "gone", "10.0.1.1", "b"},
		{"the label's Eip is gone, nobody has it", "gone", "192.168.93.1", ""},
	} {
		got := ""
		if p := all.of(test.label, netip.MustParseAddr(test.addr)); p != nil {
			got = p.Name
		}
		if got != test.want {
			t.Errorf("%s: %s of a Service labelled %s belongs to %q, want %q", test.name, test.addr, test.label, got, test.want)
		}
	}
}
