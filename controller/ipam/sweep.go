package ipam

import (
	"net/netip"
	"slices"

	"go4.org/netipx"
)

// segment is a run of addresses that the same ranges contain.
type segment struct {
	netipx.IPRange
	members []int // the ranges, by their index, ascending
}

// sweep cuts the number line at the ends of all ranges. The segments that any
// range contains are returned in order.
func sweep(ranges []netipx.IPRange) []segment {
	type edge struct {
		at    netip.Addr
		index int
		opens bool
	}
	edges := make([]edge, 0, 2*len(ranges))
	for i, r := range ranges {
		edges = append(edges, edge{r.From(), i, true})
		if end := following(r.To()); end.IsValid() {
			edges = append(edges, edge{end, i, false})
		}
	}
	slices.SortFunc(edges, func(a, b edge) int { return a.at.Compare(b.at) })

	var segments []segment
	var open []int
	for i := 0; i < len(edges); {
		from := edges[i].at
		for ; i < len(edges) && edges[i].at == from; i++ {
			at, _ := slices.BinarySearch(open, edges[i].index)
			if edges[i].opens {
				open = slices.Insert(open, at, edges[i].index)
			} else {
				open = slices.Delete(open, at, at+1)
			}
		}
		if len(open) == 0 {
			continue
		}
		to := ranges[open[0]].To() // nothing ends before the last address of all
		if i < len(edges) {
			to = preceding(edges[i].at)
		}
		segments = append(segments, segment{netipx.IPRangeFrom(from, to), slices.Clone(open)})
	}
	return segments
}

// following returns the next address; that of the last IPv4 address is the
// first IPv6 address, as Compare has it, and the last of all has none.
func following(addr netip.Addr) netip.Addr {
	if next := addr.Next(); next.IsValid() || addr.Is6() {
		return next
	}
	return netip.IPv6Unspecified()
}

// preceding is the opposite of following.
func preceding(addr netip.Addr) netip.Addr {
	if addr == netip.IPv6Unspecified() {
		return netip.AddrFrom4([4]byte{255, 255, 255, 255})
	}
	return addr.Prev()
}
