package conntrack

import (
	"encoding/binary"
	"errors"
	"fmt"
	"iter"
	"net/netip"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/fairway-lb/fairway/dataplane/service"
)

// Attributes of linux/netfilter/nfnetlink_conntrack.h that netlink has no name
// for.
const (
	ctaFilter          = 25
	ctaStatusMask      = 26
	ctaFilterOrigFlags = 1
	// filterProtocol has a dump compare the protocol of the original direction.
	filterProtocol = 1 << 3
	// seenReply is IPS_SEEN_REPLY: a packet of the other direction came by.
	seenReply = 1 << 1
)

// errMalformed is a message that is not as the kernel's are.
var errMalformed = errors.New("malformed conntrack message")

// netfilter is the kernel's table, by ctnetlink.
type netfilter struct{}

func interrupted(err error) bool {
	return errors.Is(err, netlink.ErrDumpInterrupted) || errors.Is(err, unix.EINTR)
}

// dump has the kernel leave out other protocols (Linux 5.8), and connections
// that have been answered (Linux 5.15), which is most of it. One that does not
// know how is no worse than that: stale looks itself. Families are dumped apart,
// as the kernel cannot leave out anything for both (EOPNOTSUPP), and so reads
// all of the table in vain: 8 times as slow with 40,000 entries of TCP.
func (netfilter) dump(protocol service.Protocol, family service.Family, each func(found)) error {
	tuple := nl.NewRtAttr(unix.NLA_F_NESTED|nl.CTA_TUPLE_ORIG, nil)
	tuple.AddRtAttr(unix.NLA_F_NESTED|nl.CTA_TUPLE_PROTO, nil).AddRtAttr(nl.CTA_PROTO_NUM, []byte{byte(protocol)})
	filter := nl.NewRtAttr(unix.NLA_F_NESTED|ctaFilter, nil)
	filter.AddRtAttr(ctaFilterOrigFlags, binary.NativeEndian.AppendUint32(nil, filterProtocol))

	request := newRequest(family, nl.IPCTNL_MSG_CT_GET, unix.NLM_F_DUMP)
	request.AddData(tuple)
	request.AddData(filter)
	if protocol != service.UDP {
		request.AddData(nl.NewRtAttr(nl.CTA_STATUS, binary.BigEndian.AppendUint32(nil, 0)))
		request.AddData(nl.NewRtAttr(ctaStatusMask, binary.BigEndian.AppendUint32(nil, seenReply)))
	}
	var bad error
	err := request.ExecuteIter(unix.NETLINK_NETFILTER, 0, func(message []byte) bool {
		f, err := parse(message)
		if err != nil {
			bad = err
		} else if f.protocol == protocol {
			each(f)
		}
		return true
	})
	return errors.Join(err, bad)
}

// delete names the entry by its tuple, zone and id. The id tells it from one
// that the same client has made since, unless that has the same memory.
func (netfilter) delete(f found) error {
	request := newRequest(f.family(), nl.IPCTNL_MSG_CT_DELETE, unix.NLM_F_ACK)
	request.AddRawData(f.key)
	_, err := request.Execute(unix.NETLINK_NETFILTER, 0)
	return err
}

// local asks the table that decides whether a packet is for the node, so that
// the answer is that of `fib daddr type local`.
func (netfilter) local(family service.Family) (prefixes []netip.Prefix, err error) {
	routes, err := netlink.RouteListFiltered(int(nfFamily(family)), &netlink.Route{Table: unix.RT_TABLE_LOCAL, Type: unix.RTN_LOCAL},
		netlink.RT_FILTER_TABLE|netlink.RT_FILTER_TYPE)
	for _, r := range routes {
		if r.Dst == nil {
			continue
		}
		addr, ok := netip.AddrFromSlice(r.Dst.IP)
		bits, _ := r.Dst.Mask.Size()
		if addr = addr.Unmap(); ok && service.FamilyOf(addr) == family {
			prefixes = append(prefixes, netip.PrefixFrom(addr, bits))
		}
	}
	return prefixes, err
}

func newRequest(family service.Family, operation, flags int) *nl.NetlinkRequest {
	request := nl.NewNetlinkRequest(netlink.ConntrackTable<<8|operation, flags)
	request.AddData(&nl.Nfgenmsg{NfgenFamily: nfFamily(family), Version: nl.NFNETLINK_V0})
	return request
}

// nfFamily returns the family as netfilter and routing number it.
func nfFamily(family service.Family) uint8 {
	if family == service.IPv6 {
		return unix.AF_INET6
	}
	return unix.AF_INET
}

// parse reads a message of a dump. netlink's own reader takes many times as
// long, for what is not asked here.
func parse(message []byte) (f found, err error) {
	if len(message) < nl.SizeofNfgenmsg {
		return f, errMalformed
	}
	for kind, a := range attributes(message[nl.SizeofNfgenmsg:]) {
		switch kind {
		case nl.CTA_TUPLE_ORIG:
			if f.source, f.destination, f.protocol, err = parseTuple(a.value); err != nil {
				return f, fmt.Errorf("original direction: %w", err)
			}
			f.key = append(f.key, a.whole...)
		case nl.CTA_TUPLE_REPLY:
			if f.replySource, f.replyDestination, _, err = parseTuple(a.value); err != nil {
				return f, fmt.Errorf("reply direction: %w", err)
			}
		case nl.CTA_STATUS:
			f.answered = len(a.value) == 4 && binary.BigEndian.Uint32(a.value)&seenReply != 0
		case nl.CTA_ID, nl.CTA_ZONE:
			f.key = append(f.key, a.whole...)
		}
	}
	if !f.source.IsValid() || !f.replySource.IsValid() {
		return f, errMalformed
	}
	return f, nil
}

func parseTuple(tuple []byte) (source, destination netip.AddrPort, protocol service.Protocol, err error) {
	var from, to netip.Addr
	var ports [2]uint16
	for kind, part := range attributes(tuple) {
		for field, a := range attributes(part.value) {
			switch {
			case kind == nl.CTA_TUPLE_IP && (field == nl.CTA_IP_V4_SRC || field == nl.CTA_IP_V6_SRC):
				from, _ = netip.AddrFromSlice(a.value)
			case kind == nl.CTA_TUPLE_IP && (field == nl.CTA_IP_V4_DST || field == nl.CTA_IP_V6_DST):
				to, _ = netip.AddrFromSlice(a.value)
			case kind == nl.CTA_TUPLE_PROTO && field == nl.CTA_PROTO_NUM && len(a.value) == 1:
				protocol = service.Protocol(a.value[0])
			case kind == nl.CTA_TUPLE_PROTO && field == nl.CTA_PROTO_SRC_PORT && len(a.value) == 2:
				ports[0] = binary.BigEndian.Uint16(a.value)
			case kind == nl.CTA_TUPLE_PROTO && field == nl.CTA_PROTO_DST_PORT && len(a.value) == 2:
				ports[1] = binary.BigEndian.Uint16(a.value)
			}
		}
	}
	if !from.IsValid() || !to.IsValid() || from.Is4() != to.Is4() || protocol == 0 {
		err = errMalformed
	}
	return netip.AddrPortFrom(from, ports[0]), netip.AddrPortFrom(to, ports[1]), protocol, err
}

// attribute is a netlink attribute.
type attribute struct {
	value []byte
	whole []byte // with header and padding
}

// attributes reads attributes up to the end, or to one that is not as they
// are.
func attributes(b []byte) iter.Seq2[uint16, attribute] {
	return func(yield func(uint16, attribute) bool) {
		for len(b) >= unix.SizeofNlAttr {
			length := int(binary.NativeEndian.Uint16(b))
			if length < unix.SizeofNlAttr || length > len(b) {
				return
			}
			padded := min((length+unix.NLA_ALIGNTO-1)&^(unix.NLA_ALIGNTO-1), len(b))
			kind := binary.NativeEndian.Uint16(b[2:]) & nl.NLA_TYPE_MASK
			if !yield(kind, attribute{b[unix.SizeofNlAttr:length], b[:padded]}) {
				return
			}
			b = b[padded:]
		}
	}
}
