package ipvs

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"syscall"
	"time"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"

	"github.com/fairway-lb/fairway/dataplane/service"
)

// From linux/netfilter/ipset/ip_set.h, which x/sys/unix does not have.
const (
	ipsetProtocol = 6 // spoken since Linux 2.6.39, and still

	ipsetCreate  = 2
	ipsetDestroy = 3
	ipsetSave    = 8
	ipsetAdd     = 9
	ipsetDel     = 10
	ipsetHeader  = 12
	ipsetType    = 13

	attrProtocol = 1
	attrSetName  = 2
	attrTypeName = 3
	attrRevision = 4
	attrFamily   = 5
	attrData     = 7
	attrADT      = 8
	attrLine     = 9

	attrIP      = 1
	attrCIDR    = 3
	attrPort    = 4
	attrProto   = 7
	attrFlags   = 8
	attrMaxElem = 19
	attrIP2     = 20
	attrCIDR2   = 21
	attrSkbMark = 27

	flagSkbInfo = 1 << 6
	netOrder    = unix.NLA_F_NET_BYTEORDER
)

// maxElements bounds a set, which grows as it needs to: a frontend of each of
// 65,536 ports on 16 addresses of the node.
const maxElements = 1 << 20

// elementsPerMessage keeps a message below 64 KiB, where the length of an
// attribute ends.
const elementsPerMessage = 400

// ipset speaks to the kernel about sets.
type ipset struct{ conn *netlink.Conn }

func dialIPSet() (*ipset, error) {
	conn, err := netlink.Dial(unix.NETLINK_NETFILTER, nil)
	if err != nil {
		return nil, fmt.Errorf("open a netlink socket for ipset: %w", err)
	}
	return &ipset{conn}, nil
}

func (s *ipset) close() error { return s.conn.Close() }

func (s *ipset) execute(command uint8, flags netlink.HeaderFlags, encode func(*netlink.AttributeEncoder)) ([]netlink.Message, error) {
	e := netlink.NewAttributeEncoder()
	e.ByteOrder = binary.BigEndian
	e.Uint8(attrProtocol, ipsetProtocol)
	encode(e)
	data, err := e.Encode()
	if err != nil {
		return nil, err
	}
	header := []byte{unix.AF_INET, unix.NFNETLINK_V0, 0, 0}
	m := netlink.Message{
		Header: netlink.Header{Type: unix.NFNL_SUBSYS_IPSET<<8 | netlink.HeaderType(command), Flags: netlink.Request | flags},
		Data:   append(header, data...),
	}
	return s.conn.Execute(m)
}

func netfilterFamily(family service.Family) uint8 {
	if family == service.IPv6 {
		return unix.NFPROTO_IPV6
	}
	return unix.NFPROTO_IPV4
}

// create makes a set, or finds that there is the same already.
func (s *ipset) create(name string, spec setSpec, family service.Family) error {
	revision, err := s.revision(spec.typ, family)
	if err != nil {
		return fmt.Errorf("find what the kernel knows of sets of type %s for %s: %w", spec.typ, family, err)
	}
	_, err = s.execute(ipsetCreate, netlink.Acknowledge|netlink.Create, func(e *netlink.AttributeEncoder) {
		e.String(attrSetName, name)
		e.String(attrTypeName, spec.typ)
		e.Uint8(attrRevision, revision)
		e.Uint8(attrFamily, netfilterFamily(family))
		e.Nested(attrData, func(e *netlink.AttributeEncoder) error {
			e.Uint32(attrMaxElem|netOrder, maxElements)
			if spec.marks {
				e.Uint32(attrFlags|netOrder, flagSkbInfo)
			}
			return nil
		})
	})
	if err != nil {
		return fmt.Errorf("make the ipset %s of type %s: %w", name, spec.typ, err)
	}
	return nil
}

// revision returns the last one of a type that the kernel knows.
func (s *ipset) revision(typ string, family service.Family) (uint8, error) {
	answers, err := s.execute(ipsetType, 0, func(e *netlink.AttributeEncoder) {
		e.String(attrTypeName, typ)
		e.Uint8(attrFamily, netfilterFamily(family))
	})
	if err != nil {
		return 0, err
	}
	var revision uint8
	for _, m := range answers {
		d, err := attributes(m.Data)
		if err != nil {
			return 0, err
		}
		for d.Next() {
			if d.Type() == attrRevision {
				revision = d.Uint8()
			}
		}
		if err := d.Err(); err != nil {
			return 0, err
		}
	}
	return revision, nil
}

// errBusy is IPSET_ERR_BUSY. A rule of iptables-nft that was removed goes on to
// use its set until the kernel has freed it, which it does in the background.
const (
	errBusy      = syscall.Errno(4100)
	busyTimeout  = 10 * time.Second
	busyInterval = 20 * time.Millisecond
)

// destroy removes a set, as soon as no rule uses it any more.
func (s *ipset) destroy(name string) error {
	again := time.NewTicker(busyInterval)
	defer again.Stop()
	for end := time.Now().Add(busyTimeout); ; <-again.C {
		_, err := s.execute(ipsetDestroy, netlink.Acknowledge, func(e *netlink.AttributeEncoder) { e.String(attrSetName, name) })
		switch {
		case err == nil, errors.Is(err, unix.ENOENT):
			return nil
		case !errors.Is(err, errBusy) || time.Now().After(end):
			return fmt.Errorf("remove the ipset %s: %w", name, err)
		}
	}
}

// exists tells whether there is a set of a name. A kernel that knows no sets has
// none.
func (s *ipset) exists(name string) (bool, error) {
	_, err := s.execute(ipsetHeader, 0, func(e *netlink.AttributeEncoder) { e.String(attrSetName, name) })
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.EINVAL) || errors.Is(err, unix.EOPNOTSUPP) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("look for the ipset %s: %w", name, err)
	}
	return true, nil
}

// element is an entry with the mark that it stands for.
type element struct {
	entryKey
	mark uint32
}

// add puts entries of one set there, or changes their marks.
func (s *ipset) add(name string, spec setSpec, elements []element) error {
	return s.change(ipsetAdd, name, spec, elements)
}

// del takes entries away. That they are not there is as good.
func (s *ipset) del(name string, spec setSpec, elements []element) error {
	return s.change(ipsetDel, name, spec, elements)
}

func (s *ipset) change(command uint8, name string, spec setSpec, elements []element) error {
	for len(elements) > 0 {
		some := elements[:min(len(elements), elementsPerMessage)]
		elements = elements[len(some):]
		_, err := s.execute(command, netlink.Acknowledge, func(e *netlink.AttributeEncoder) {
			e.String(attrSetName, name)
			e.Uint32(attrLine, 1)
			e.Nested(attrADT, func(e *netlink.AttributeEncoder) error {
				for _, x := range some {
					e.Nested(attrData, func(e *netlink.AttributeEncoder) error { x.encode(e, spec); return nil })
				}
				return nil
			})
		})
		if err != nil {
			return fmt.Errorf("change %d entries of the ipset %s: %w", len(some), name, err)
		}
	}
	return nil
}

func (x element) encode(e *netlink.AttributeEncoder, spec setSpec) {
	address := func(attr uint16, addr netip.Addr) {
		e.Nested(attr, func(e *netlink.AttributeEncoder) error {
			kind := uint16(1) // IPSET_ATTR_IPADDR_IPV4
			if addr.Is6() {
				kind = 2
			}
			e.Bytes(kind|netOrder, addr.AsSlice())
			return nil
		})
	}
	if spec.typ == hashNet {
		address(attrIP, x.source.Addr())
		e.Uint8(attrCIDR, uint8(x.source.Bits()))
		return
	}
	address(attrIP, x.addr)
	if spec.typ == hashIP {
		return
	}
	e.Uint16(attrPort|netOrder, x.port)
	e.Uint8(attrProto, uint8(x.protocol))
	switch spec.typ {
	case hashIPPortIP:
		address(attrIP2, x.source.Addr())
	case hashIPPortNet:
		address(attrIP2, x.source.Addr())
		e.Uint8(attrCIDR2, uint8(x.source.Bits()))
	}
	if spec.marks && x.mark != 0 {
		// The mark, and which bits of the packet's it takes the place of.
		e.Uint64(attrSkbMark|netOrder, uint64(x.mark)<<32|0xffffffff)
	}
}

// list returns the entries of a set. A set that there is not has none.
func (s *ipset) list(name string, kind setKind) ([]element, error) {
	answers, err := s.execute(ipsetSave, netlink.Dump, func(e *netlink.AttributeEncoder) { e.String(attrSetName, name) })
	if errors.Is(err, unix.ENOENT) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("list the ipset %s: %w", name, err)
	}
	var all []element
	for _, m := range answers {
		d, err := attributes(m.Data)
		if err != nil {
			return nil, fmt.Errorf("list the ipset %s: %w", name, err)
		}
		for d.Next() {
			if d.Type() != attrADT {
				continue
			}
			d.Nested(func(d *netlink.AttributeDecoder) error {
				for d.Next() {
					x := element{entryKey: entryKey{set: kind}}
					d.Nested(x.decode)
					all = append(all, x)
				}
				return nil
			})
		}
		if err := d.Err(); err != nil {
			return nil, fmt.Errorf("read the ipset %s: %w", name, err)
		}
	}
	return all, nil
}

// attributes reads what follows the header of nfnetlink.
func attributes(data []byte) (*netlink.AttributeDecoder, error) {
	if len(data) < 4 {
		return nil, fmt.Errorf("a message of %d bytes is too short", len(data))
	}
	d, err := netlink.NewAttributeDecoder(data[4:])
	if err != nil {
		return nil, err
	}
	d.ByteOrder = binary.BigEndian
	return d, nil
}

func (x *element) decode(d *netlink.AttributeDecoder) error {
	address := func() (addr netip.Addr) {
		d.Nested(func(d *netlink.AttributeDecoder) error {
			for d.Next() {
				addr, _ = netip.AddrFromSlice(d.Bytes())
			}
			return nil
		})
		return addr
	}
	var ip, ip2 netip.Addr
	bits := -1
	for d.Next() {
		switch d.Type() {
		case attrIP:
			ip = address()
		case attrIP2:
			ip2 = address()
		case attrCIDR, attrCIDR2:
			bits = int(d.Uint8())
		case attrPort:
			x.port = d.Uint16()
		case attrProto:
			x.protocol = service.Protocol(d.Uint8())
		case attrSkbMark:
			x.mark = uint32(d.Uint64() >> 32)
		}
	}
	source := ip2
	if sets[x.set].typ == hashNet {
		ip, source = netip.Addr{}, ip
	}
	x.addr = ip
	if source.IsValid() {
		if bits < 0 {
			bits = source.BitLen()
		}
		x.source = netip.PrefixFrom(source, bits)
	}
	return nil
}
