package nftables

import (
	"net/netip"

	"go4.org/netipx"

	"github.com/fairway-lb/fairway/dataplane"
	"github.com/fairway-lb/fairway/dataplane/service"
)

// rangesOf returns those of a family, merged: the kernel refuses overlaps.
func rangesOf(family service.Family, prefixes []netip.Prefix, addrs ...netip.Addr) []netipx.IPRange {
	var b netipx.IPSetBuilder
	for _, p := range dataplane.OfFamily(family, prefixes) {
		b.AddPrefix(p)
	}
	for _, a := range addrs {
		b.Add(a)
	}
	set, err := b.IPSet()
	if err != nil {
		return nil // invalid prefixes only, which nobody hands in
	}
	return set.Ranges()
}
