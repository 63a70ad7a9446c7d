package nftables

import (
	"github.com/fairway-lb/fairway/dataplane/service"
)

// Numbers of nft's data types. The kernel keeps them for nft to read.
const (
	typeInteger  = 4
	typeIPv4     = 7
	typeIPv6     = 8
	typeProtocol = 12
	typePort     = 13
	typeBits     = 6 // of each in the type of a concatenation
)

var addrPort = []field{daddrField, portField}

func (f field) length(family service.Family) uint32 {
	switch f {
	case saddrField, daddrField:
		return addrLen(family)
	case protocolField:
		return 1
	case portField:
		return 2
	}
	return 4
}

// lengthOf pads all but a single field to registers.
func lengthOf(family service.Family, fields []field) uint32 {
	if len(fields) == 1 {
		return fields[0].length(family)
	}
	var n uint32
	for _, f := range fields {
		n += (f.length(family) + 3) &^ 3
	}
	return n
}

func typeOf(family service.Family, fields []field) uint32 {
	var t uint32
	for _, f := range fields {
		t = t<<typeBits | f.dataType(family)
	}
	return t
}

func (f field) dataType(family service.Family) uint32 {
	switch f {
	case saddrField, daddrField:
		if family == service.IPv6 {
			return typeIPv6
		}
		return typeIPv4
	case protocolField:
		return typeProtocol
	case portField:
		return typePort
	}
	return typeInteger
}

// userdata is what nft keeps in a set of itself: byte orders, and by which
// expressions the set was declared. A key with a random number has no other
// declaration that nft could list.
func userdata(family service.Family, s setSpec) []byte {
	const (
		keyByteorder, dataByteorder = 0, 1
		keyTypeof, dataTypeof       = 3, 4
		hostEndian, bigEndian       = 1, 2
	)
	var order uint32
	switch {
	case len(s.key) == 1 && s.key[0] == slotField:
		order = hostEndian
	case len(s.key) == 1:
		order = bigEndian
	}
	u := appendTLV(nil, keyByteorder, native(order))
	if s.data != noData {
		u = appendTLV(u, dataByteorder, native(0))
	}
	if s.data == addrPortData {
		u = appendTLV(u, keyTypeof, typeofConcat(family, s.key))
		u = appendTLV(u, dataTypeof, typeofConcat(family, addrPort))
	}
	return u
}

func typeofConcat(family service.Family, fields []field) []byte {
	if len(fields) == 1 {
		return fields[0].typeof(family)
	}
	var list []byte
	for i, f := range fields {
		list = appendTLV(list, byte(i), f.typeof(family))
	}
	return typeofExpr(exprConcat, list)
}

// Numbers of nft's expressions.
const (
	exprPayload = 7
	exprMeta    = 9
	exprConcat  = 13
	exprNumgen  = 23
)

func (f field) typeof(family service.Family) []byte {
	payload := func(protocol, field uint32) []byte {
		return typeofExpr(exprPayload, appendTLV(appendTLV(nil, 0, native(protocol)), 1, native(field)))
	}
	// By nft's lists of headers and their fields.
	ip, source, destination := uint32(12), uint32(11), uint32(12)
	if family == service.IPv6 {
		ip, source, destination = 13, 8, 9
	}
	switch f {
	case saddrField:
		return payload(ip, source)
	case daddrField:
		return payload(ip, destination)
	case protocolField:
		return typeofExpr(exprMeta, appendTLV(nil, 0, native(16)))
	case portField:
		return payload(11, 2)
	}
	random := appendTLV(nil, 0, native(1))
	random = appendTLV(random, 1, native(2)) // of any number: the type is the same
	return typeofExpr(exprNumgen, appendTLV(random, 2, native(0)))
}

func typeofExpr(kind uint32, data []byte) []byte {
	return appendTLV(appendTLV(nil, 0, native(kind)), 1, data)
}

func appendTLV(b []byte, kind byte, value []byte) []byte {
	return append(append(b, kind, byte(len(value))), value...)
}
