package ipam

import (
	"fmt"
	"math"
	"math/big"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"go4.org/netipx"

	"github.com/fairway-lb/fairway/api/v1alpha2"
)

// How many addresses can be given, which is the first and the last, and how a
// message writes the space.
func TestSpaceSizes(t *testing.T) {
	for _, test := range []struct{ space, total, first, last, text string }{
		{"192.168.0.1", "1", "192.168.0.1", "192.168.0.1", "192.168.0.1"},
		{"192.168.0.1/24", "254", "192.168.0.0", "192.168.0.255", "192.168.0.0/24"},
		{"192.168.0.1/24 known", "256", "192.168.0.0", "192.168.0.255", "192.168.0.0/24"},
		{"192.168.0.1-192.168.0.100", "100", "192.168.0.1", "192.168.0.100", "192.168.0.1-192.168.0.100"},
		{"10.0.0.0/30", "2", "10.0.0.0", "10.0.0.3", "10.0.0.0/30"},
		{"10.0.0.0/31", "2", "10.0.0.0", "10.0.0.1", "10.0.0.0/31"},
		{"10.0.0.0/32", "1", "10.0.0.0", "10.0.0.0", "10.0.0.0"},
		{"10.0.0.64/26", "62", "10.0.0.64", "10.0.0.127", "10.0.0.64/26"},
		{"10.0.0.0/23", "508", "10.0.0.0", "10.0.1.255", "10.0.0.0/23"},
		{"10.0.0.0/24 10.0.1.0/24", "508", "10.0.0.0", "10.0.1.255", "10.0.0.0/23"},
		{"10.0.0.0/23 10.0.0.0/24", "508", "10.0.0.0", "10.0.1.255", "10.0.0.0/23"},
		{"10.0.0.0/24 10.0.0.0", "255", "10.0.0.0", "10.0.0.255", "10.0.0.0/24"},      // given, as one block says so
		{"10.0.0.0/24 10.0.0.64/26", "254", "10.0.0.0", "10.0.0.255", "10.0.0.0/24"},  // .64 and .127 are reserved by one block only
		{"10.0.0.0/25 10.0.0.128/25", "252", "10.0.0.0", "10.0.0.255", "10.0.0.0/24"}, // two networks with their ends
		{"10.0.0.0/24 10.0.0.0-10.0.1.5", "262", "10.0.0.0", "10.0.1.5", "10.0.0.0-10.0.1.5"},
		{"10.0.0.0/24 !10.0.0.0/25", "127", "10.0.0.128", "10.0.0.255", "10.0.0.128/25"},
		{"10.0.0.0/24 !10.0.0.5 !10.0.0.255", "253", "10.0.0.0", "10.0.0.254", "10.0.0.0-10.0.0.4, 10.0.0.6-10.0.0.254"},
		{"10.0.0.5 !10.0.0.0/24", "0", "invalid IP", "invalid IP", "no addresses"},
		{"0.0.0.0/0", "4261412864", "0.0.0.0", "255.255.255.255", "0.0.0.0/0"},
		{"0.0.0.0/0 known", "4294967296", "0.0.0.0", "255.255.255.255", "0.0.0.0/0"},
		{"2001:db8::/120", "256", "2001:db8::", "2001:db8::ff", "2001:db8::/120"},
		{"2001:db8::/65", "9223372036854775808", "2001:db8::", "2001:db8::7fff:ffff:ffff:ffff", "2001:db8::/65"},
		{"2001:db8::/64", "18446744073709551616", "2001:db8::", "2001:db8::ffff:ffff:ffff:ffff", "2001:db8::/64"},
		{"2001:db8::1-2001:db9::1", "79228162514264337593543950337", "2001:db8::1", "2001:db9::1", "2001:db8::1-2001:db9::1"},
		{"::/0", "340282366920938463463374607431768211456", "::", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "::/0"},
		{"::/0 !::/1 0.0.0.0/0 !255.0.0.0/8", "170141183460469231731687303720128872448", "0.0.0.0", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "0.0.0.0-254.255.255.255, 8000::/1"},
		{"10.0.0.1 10.0.0.3 10.0.0.5 10.0.0.7 10.0.0.9 10.0.0.11", "6", "10.0.0.1", "10.0.0.11", "10.0.0.1, 10.0.0.3, 10.0.0.5, 10.0.0.7, and 2 more ranges"},
	} {
		s := spaceOf(test.space)
		total := new(big.Int).Add(s.size(IPv4), s.size(IPv6))
		first, last := s.Bounds()
		if total.String() != test.total || first.String() != test.first || last.String() != test.last || s.String() != test.text {
			t.Errorf("%s: %s addresses, %s to %s, written %s", test.space, total, first, last, s)
		}
	}
}

func TestSpaceContains(t *testing.T) {
	s := spaceOf("192.168.1.100-192.168.1.200 10.0.0.0/24 2001:db8::/126 !10.0.0.7")
	for text, want := range map[string]string{
		"192.168.1.99": "out", "192.168.1.100": "gives", "192.168.1.150": "gives", "192.168.1.200": "gives", "192.168.1.201": "out",
		"10.0.0.0": "reserves", "10.0.0.1": "gives", "10.0.0.7": "out", "10.0.0.255": "reserves", "10.0.1.0": "out",
		"2001:db8::": "gives", "2001:db8::3": "gives", "2001:db8::4": "out",
		"::ffff:10.0.0.1": "out", "::": "out", "0.0.0.0": "out", "255.255.255.255": "out",
	} {
		if got := membership(s, addr(text)); got != want {
			t.Errorf("%s: %s, want %s", text, got, want)
		}
	}
	if got := membership(s, netip.Addr{}); got != "out" {
		t.Errorf("no address: %s", got)
	}
}

func membership(s Space, addr netip.Addr) string {
	switch {
	case s.gives(addr) && s.Contains(addr) && !s.Reserves(addr):
		return "gives"
	case s.Reserves(addr) && s.Contains(addr) && !s.gives(addr):
		return "reserves"
	case !s.Contains(addr) && !s.Reserves(addr) && !s.gives(addr):
		return "out"
	default:
		return "contradiction"
	}
}

func TestSpaceEqual(t *testing.T) {
	for _, test := range []struct {
		a, b string
		want bool
	}{
		{"10.0.0.0/24", "10.0.0.9/24", true},
		{"10.0.0.0/23", "10.0.1.0/24 10.0.0.0/24", true},
		{"10.0.0.0/24 known", "10.0.0.0-10.0.0.255", true},
		{"10.0.0.0/24", "10.0.0.0/24 known", false},
		{"10.0.0.0/24", "10.0.0.0/25 10.0.0.128/25", false},
		{"10.0.0.0/24", "10.0.0.0/24 !10.0.0.4", false},
		{"10.0.0.0/24", "10.0.0.0/24 2001:db8::1", false},
	} {
		if got := spaceOf(test.a).Equal(spaceOf(test.b)); got != test.want {
			t.Errorf("%s equals %s: %t", test.a, test.b, got)
		}
	}
}

// The text of a space is bounded whatever is in it.
func TestSpaceText(t *testing.T) {
	var parts []string
	for i := range 128 {
		parts = append(parts, fmt.Sprintf("2001:db8:%x:1111:2222:3333:4444:5555-2001:db8:%x:ffff:ffff:ffff:ffff:fffe", i, i))
	}
	if text := spaceOf(strings.Join(parts, " ")).String(); len(text) > 400 || !strings.HasSuffix(text, "and 124 more ranges") {
		t.Errorf("%d characters: %s", len(text), text)
	}
}

func TestSaturatingInt(t *testing.T) {
	for text, want := range map[string]int{
		"2001:db8::/65": math.MaxInt, "::/0": math.MaxInt, "0.0.0.0/0 known": 4294967296,
		"2001:db8::-2001:db8::7fff:ffff:ffff": 140737488355328,
	} {
		s := spaceOf(text)
		if got := SaturatingInt(new(big.Int).Add(s.size(IPv4), s.size(IPv6))); got != want {
			t.Errorf("%s: %d, want %d", text, got, want)
		}
	}
}

// On small spaces, what is computed is what counting gives.
func FuzzNewSpace(f *testing.F) {
	for seed := range uint64(300) {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, seed uint64) {
		rnd := rand.New(rand.NewPCG(seed, 1))
		blocks, excluded := randomBlocks(rnd, 1+rnd.IntN(5)), randomBlocks(rnd, rnd.IntN(4))
		known := rnd.IntN(5) == 0
		s := NewSpace(blocks, excluded, known)
		given := map[Family]int64{}
		var passed []netip.Addr
		for _, base := range bases() {
			for i, addr := 0, base; i < reach; i, addr = i+1, following(addr) {
				want := naiveMembership(blocks, excluded, known, addr)
				if got := membership(s, addr); got != want {
					t.Fatalf("%v without %v, known %t: %s is %s, want %s", blocks, excluded, known, addr, got, want)
				}
				if want == "gives" {
					given[FamilyOf(addr)]++
					passed = append(passed, addr)
				}
			}
		}
		for _, family := range bothFamilies() {
			if got := s.size(family); got.Cmp(big.NewInt(given[family])) != 0 {
				t.Fatalf("%v without %v, known %t: %s %s addresses, want %d", blocks, excluded, known, got, family, given[family])
			}
		}
		if walked := walk(s); !slices.Equal(walked, passed) {
			t.Fatalf("%v without %v, known %t: the frontier passes %v, want %v", blocks, excluded, known, walked, passed)
		}
	})
}

const reach = 600

// bases are where random blocks lie; two of them touch the ends of a family.
func bases() []netip.Addr {
	return []netip.Addr{addr("10.0.0.0"), addr("255.255.253.168"), addr("2001:db8::fe00"), addr("ffff:ffff:ffff:ffff:ffff:ffff:ffff:fda8")}
}

func randomBlocks(rnd *rand.Rand, n int) (blocks []v1alpha2.Block) {
	for range n {
		base := bases()[rnd.IntN(4)]
		from := plus(base, rnd.IntN(500))
		if rnd.IntN(2) == 0 {
			to := plus(from, rnd.IntN(90))
			blocks = append(blocks, v1alpha2.Block{IPRange: netipx.IPRangeFrom(from, to)})
			continue
		}
		prefix, err := from.Prefix(from.BitLen() - rnd.IntN(9))
		if err != nil {
			panic(err)
		}
		if prefix.Addr().Less(base) {
			continue
		}
		blocks = append(blocks, v1alpha2.Block{IPRange: netipx.RangeOfPrefix(prefix), Prefix: prefix})
	}
	return blocks
}

func plus(addr netip.Addr, n int) netip.Addr {
	for range n {
		addr = addr.Next()
	}
	return addr
}

// naiveMembership goes by the words of the documentation.
func naiveMembership(blocks, excluded []v1alpha2.Block, known bool, addr netip.Addr) string {
	if slices.ContainsFunc(excluded, func(b v1alpha2.Block) bool { return b.Contains(addr) }) {
		return "out"
	}
	contained, reserved := false, true
	for _, b := range blocks {
		if !b.Contains(addr) {
			continue
		}
		contained = true
		cidr := b.Prefix.IsValid() && addr.Is4() && b.Prefix.Bits() <= 30
		special := addr == b.From() || addr == b.To() || addr.Is4() && (addr.As4()[3] == 0 || addr.As4()[3] == 255)
		if known || !cidr || !special {
			reserved = false
		}
	}
	switch {
	case !contained:
		return "out"
	case reserved:
		return "reserves"
	default:
		return "gives"
	}
}

// walk returns all addresses as a free list gives them.
func walk(s Space) (walked []netip.Addr) {
	for _, family := range bothFamilies() {
		list := newFreeList()
		list.reset(s.of(family), false, s.gives)
		used := map[netip.Addr]bool{}
		for {
			addr := list.unused(func(addr netip.Addr) bool { return used[addr] })
			if !addr.IsValid() {
				break
			}
			used[addr] = true
			walked = append(walked, addr)
		}
	}
	return walked
}
