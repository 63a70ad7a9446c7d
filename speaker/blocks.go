package speaker

import (
	"fmt"
	"net/netip"
	"strings"

	"go4.org/netipx"

	"github.com/fairway-lb/fairway/api/v1alpha2"
)

// space is the addresses of an Eip. It is read once for each change of the
// Eip's spec.
type space struct {
	set    *netipx.IPSet
	blocks []block
	// faults are the entries that are not addresses. The others count all the
	// same: a typo takes no announced address away.
	faults []string
}

// block is one entry of an Eip.
type block struct {
	netipx.IPRange
	text  string           // as its owner wrote it
	parts []netipx.IPRange // what spec.exclude leaves of it
	// scopes are those by which a node may say that it serves the block.
	scopes []string
}

// readSpace reads the addresses of the Eip of that name.
func readSpace(name string, spec *v1alpha2.EipSpec) *space {
	s := &space{}
	var all netipx.IPSetBuilder
	entry := func(field, text string) (netipx.IPRange, bool) {
		r, err := v1alpha2.ParseAddress(text)
		if err != nil {
			s.faults = append(s.faults, fmt.Sprintf("%s %q: %v", field, text, err))
		}
		return r, err == nil
	}
	known := map[netipx.IPRange]bool{}
	add := func(field, text string) {
		if r, ok := entry(field, text); ok && !known[r] {
			known[r] = true
			all.AddRange(r)
			s.blocks = append(s.blocks, block{IPRange: r, text: text, scopes: []string{poolScope(name), blockScope(name, r)}})
		}
	}
	add("spec.address", spec.Address)
	for i, text := range spec.Addresses {
		add(fmt.Sprintf("spec.addresses[%d]", i), string(text))
	}
	for i, text := range spec.Exclude {
		if r, ok := entry(fmt.Sprintf("spec.exclude[%d]", i), string(text)); ok {
			all.RemoveRange(r)
		}
	}
	// The ranges are valid, so there is no error; without a set, the pool
	// would contain nothing.
	if s.set, _ = all.IPSet(); s.set == nil {
		s.set = &netipx.IPSet{}
	}
	s.trim()
	return s
}

// trim finds what is left of each block, and drops those of which nothing is.
func (s *space) trim() {
	left := s.blocks[:0]
	for _, b := range s.blocks {
		var rest netipx.IPSetBuilder
		rest.AddRange(b.IPRange)
		rest.Intersect(s.set)
		if set, err := rest.IPSet(); err == nil && len(set.Ranges()) > 0 {
			b.parts = set.Ranges()
			left = append(left, b)
		}
	}
	s.blocks = left
}

// A scope is what a node says that it serves: all of a pool, one of its
// blocks, or, of a pool's addresses in use that no pool contains any more,
// those in a subnet. The name of an Eip has no blank, so no two scopes are
// spelled alike. Speakers of a version that knows no blocks say the pool's
// name when they can serve spec.address.

func poolScope(pool string) string { return pool }

func blockScope(pool string, block netipx.IPRange) string {
	return pool + " " + block.String()
}

func subnetScope(pool string, subnet netip.Prefix) string {
	return pool + " " + subnet.String()
}

// strayScopes are the scopes of all subnets that an address can be in.
func strayScopes(pool string, addr netip.Addr) []string {
	scopes := make([]string, 0, addr.BitLen()+1)
	for bits := range addr.BitLen() + 1 {
		subnet, _ := addr.Prefix(bits) // a valid number of bits
		scopes = append(scopes, subnetScope(pool, subnet))
	}
	return scopes
}

// listed names some blocks and how many there are besides.
func listed(blocks []string) string {
	// An event has 1024 characters, a block 87 at most (two IPv6 addresses).
	const most = 4
	if len(blocks) > most {
		return fmt.Sprintf("%s and %d more", strings.Join(blocks[:most], ", "), len(blocks)-most)
	}
	return strings.Join(blocks, ", ")
}
