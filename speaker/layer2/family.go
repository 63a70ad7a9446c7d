package layer2

import (
	"net/netip"

	"golang.org/x/net/bpf"
)

// A family is a label of the metrics as well.
type family string

const (
	familyIPv4 family = "ipv4"
	familyIPv6 family = "ipv6"
)

func familyOf(a netip.Addr) family {
	if a.Is4() {
		return familyIPv4
	}
	return familyIPv6
}

// A protocol is what ARP and NDP do differently. It works on whole Ethernet
// frames, holds no state and does no I/O.
type protocol interface {
	etherType() int
	// filter passes to user space requests for owned addresses. If telling
	// their targets apart takes more than limit instructions, it passes
	// requests for all targets.
	filter(owned addrSet, limit int) []bpf.Instruction
	// answer returns the frame that answers the request in frame, and false if
	// none is due. It accepts arbitrary bytes.
	answer(frame []byte, owned addrSet) ([]byte, bool)
	// gratuitous returns the frames that announce addr to everyone on the link.
	gratuitous(addr netip.Addr) ([][]byte, error)
}
