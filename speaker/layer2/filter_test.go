package layer2

import (
	"fmt"
	"net/netip"
	"testing"

	"github.com/mdlayher/arp"
	"github.com/mdlayher/ethernet"
	"golang.org/x/net/bpf"
)

// The filters pass what is answered, and next to nothing else.
func TestFilters(t *testing.T) {
	for _, count := range []int{1, 2, 254, 255, 256, 511, 1000, 3900} {
		v4, v6 := addrSet{}, addrSet{}
		for i := range count {
			v4[v4Addr(i)] = struct{}{}
			v6[v6Addr(i)] = struct{}{}
		}
		arpVM, ndpVM := machine(t, arpFilter(v4, kernelLimit)), machine(t, ndpFilter(v6, kernelLimit))
		for i := range count {
			expectPass(t, arpVM, arpFrame(v4Addr(i).String()), true, fmt.Sprintf("%d of %d", i, count))
			expectPass(t, ndpVM, nsFrame(v6Addr(i).String()), true, fmt.Sprintf("%d of %d", i, count))
		}
		expectPass(t, arpVM, arpFrame(v4Addr(count).String()), false, "other target")
		expectPass(t, ndpVM, nsFrame(v6Addr(count).String()), false, "other target")
	}
}

func TestFilterHeaders(t *testing.T) {
	arpVM := machine(t, arpFilter(owned("192.0.2.10"), kernelLimit))
	good := func() []byte { return arpFrame("192.0.2.10") }
	expectPass(t, arpVM, good(), true, "request")
	expectPass(t, arpVM, arpFrame("192.0.2.10", func(_ *ethernet.Frame, p *arp.Packet) { p.Operation = arp.OperationReply }), false, "reply")
	expectPass(t, arpVM, edit(good(), 13, 0), false, "EtherType")
	expectPass(t, arpVM, edit(good(), 15, 6), false, "hardware type")
	expectPass(t, arpVM, edit(good(), 16, 6), false, "protocol type")
	expectPass(t, arpVM, edit(good(), 18, 8), false, "length of hardware addresses")
	expectPass(t, arpVM, edit(good(), 19, 8), false, "length of protocol addresses")
	expectPass(t, arpVM, good()[:40], false, "cut off")

	ndpVM := machine(t, ndpFilter(owned("2001:db8::10"), kernelLimit))
	ask := func() []byte { return nsFrame("2001:db8::10") }
	expectPass(t, ndpVM, ask(), true, "solicitation")
	expectPass(t, ndpVM, edit(ask(), 13, 0), false, "EtherType")
	expectPass(t, ndpVM, edit(ask(), ethernetLen+6, 17), false, "next header")
	expectPass(t, ndpVM, edit(ask(), ethernetLen+7, 64), false, "hop limit")
	expectPass(t, ndpVM, edit(ask(), ethernetLen+ipv6Len, 136), false, "advertisement")
	expectPass(t, ndpVM, ask()[:70], false, "cut off")
}

// Nothing owned: nothing passes. Too much owned: requests for all targets do.
func TestFilterLimits(t *testing.T) {
	many4, many6 := addrSet{}, addrSet{}
	for i := range 5000 {
		many4[v4Addr(i)] = struct{}{}
		many6[v6Addr(i)] = struct{}{}
	}
	for _, tc := range []struct {
		name    string
		program []bpf.Instruction
		ask     []byte
		pass    bool
	}{
		{"arp, none", arpFilter(nil, kernelLimit), arpFrame("192.0.2.10"), false},
		{"ndp, none", ndpFilter(nil, kernelLimit), nsFrame("2001:db8::10"), false},
		{"arp, many", arpFilter(many4, kernelLimit), arpFrame("192.0.2.10"), true},
		{"arp, many, reply", arpFilter(many4, kernelLimit), edit(arpFrame("192.0.2.10"), 21, 2), false},
		{"ndp, many", ndpFilter(many6, kernelLimit), nsFrame("2001:db8::10"), true},
		{"arp, little memory", arpFilter(owned("192.0.2.10"), 0), arpFrame("192.0.2.11"), true},
	} {
		if n := len(receivedOnly(tc.program)); n > 4096 {
			t.Errorf("%s: %d instructions", tc.name, n)
		}
		expectPass(t, machine(t, tc.program), tc.ask, tc.pass, tc.name)
	}
}

func v4Addr(i int) netip.Addr { return netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)}) }

func v6Addr(i int) netip.Addr {
	return netip.AddrFrom16([16]byte{0x20, 1, 0xd, 0xb8, 14: byte(i >> 8), 15: byte(i)})
}

func machine(t *testing.T, program []bpf.Instruction) *bpf.VM {
	t.Helper()
	vm, err := bpf.NewVM(program)
	must(t, err)
	return vm
}

func expectPass(t *testing.T, vm *bpf.VM, frame []byte, want bool, name string) {
	t.Helper()
	n, err := vm.Run(frame)
	must(t, err)
	if got := n >= len(frame) && n > 0; got != want {
		t.Errorf("%s: passed %v, want %v", name, got, want)
	}
}
