package layer2

import (
	"encoding/binary"
	"slices"

	"github.com/mdlayher/ethernet"
	"github.com/mdlayher/ndp"
	"golang.org/x/net/bpf"
	"golang.org/x/net/ipv6"
	"golang.org/x/sys/unix"
)

const (
	// kernelLimit is the length of the longest classic BPF program that the
	// kernel takes (BPF_MAXINSNS), less those of receivedOnly.
	kernelLimit = 4096 - 3
	// maxSkip is the farthest that a conditional jump reaches: its offset is a byte.
	maxSkip = 255
	// wholeFrame is longer than any frame.
	wholeFrame = 1 << 18
)

// arpFilter passes ARP requests for owned addresses.
func arpFilter(owned addrSet, limit int) []bpf.Instruction {
	program := slices.Concat(
		require(12, 2, uint32(ethernet.EtherTypeARP)),
		require(14, 4, arpEthernet<<16|uint32(ethernet.EtherTypeIPv4)),
		require(18, 2, 6<<8|4), // lengths of the addresses
		require(20, 2, 1),      // request
	)
	return requireOneOf(program, limit, arpTarget, words(owned, func(b []byte) []byte { return b }))
}

// ndpFilter passes neighbor solicitations for owned addresses. It compares the
// low 32 bits of the target only, which tells the addresses of a pool apart.
func ndpFilter(owned addrSet, limit int) []bpf.Instruction {
	program := slices.Concat(
		require(12, 2, uint32(ethernet.EtherTypeIPv6)),
		require(ethernetLen+6, 1, unix.IPPROTO_ICMPV6),
		require(ethernetLen+7, 1, ndp.HopLimit),
		require(ethernetLen+ipv6Len, 1, uint32(ipv6.ICMPTypeNeighborSolicitation)),
	)
	return requireOneOf(program, limit, ndpTarget+12, words(owned, func(b []byte) []byte { return b[12:] }))
}

// receivedOnly goes before a filter in the kernel: it drops what this node
// sent itself and what a promiscuous interface or an unknown VLAN brought in
// for others (PACKET_OTHERHOST and above).
func receivedOnly(program []bpf.Instruction) []bpf.Instruction {
	return append([]bpf.Instruction{
		bpf.LoadExtension{Num: bpf.ExtType},
		bpf.JumpIf{Cond: bpf.JumpGreaterThan, Val: unix.PACKET_MULTICAST, SkipFalse: 1},
		bpf.RetConstant{Val: 0},
	}, program...)
}

// require drops a frame whose size bytes at off are not val.
func require(off, size int, val uint32) []bpf.Instruction {
	return []bpf.Instruction{
		bpf.LoadAbsolute{Off: uint32(off), Size: size},
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: val, SkipTrue: 1},
		bpf.RetConstant{Val: 0},
	}
}

// requireOneOf ends a program: it passes a frame whose four bytes at off are
// one of vals. The comparisons within one jump's reach share one return, so that
// an address costs one instruction. If the program gets longer than limit, all
// frames pass and user space tells the values apart.
func requireOneOf(program []bpf.Instruction, limit, off int, vals []uint32) []bpf.Instruction {
	pass := bpf.RetConstant{Val: wholeFrame}
	checks := []bpf.Instruction{bpf.LoadAbsolute{Off: uint32(off), Size: 4}}
	for chunk := range slices.Chunk(vals, maxSkip) {
		for i, val := range chunk {
			checks = append(checks, bpf.JumpIf{Cond: bpf.JumpEqual, Val: val, SkipTrue: uint8(len(chunk) - i)})
		}
		checks = append(checks, bpf.Jump{Skip: 1}, pass)
	}
	checks = append(checks, bpf.RetConstant{Val: 0})
	if len(program)+len(checks) > limit {
		return append(program, pass)
	}
	return append(program, checks...)
}

// words returns the distinct 32-bit words that part takes out of the addresses.
func words(owned addrSet, part func([]byte) []byte) []uint32 {
	vals := make([]uint32, 0, len(owned))
	for a := range owned {
		vals = append(vals, binary.BigEndian.Uint32(part(a.AsSlice())))
	}
	slices.Sort(vals)
	return slices.Compact(vals)
}
