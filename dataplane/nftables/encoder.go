package nftables

import (
	"encoding/binary"

	"golang.org/x/sys/unix"
)

// encoder appends netlink attributes, of which nf_tables has the numbers in
// network byte order.
type encoder []byte

func (e *encoder) bytes(kind uint16, value []byte) {
	*e = binary.NativeEndian.AppendUint16(*e, uint16(unix.SizeofNlAttr+len(value)))
	*e = binary.NativeEndian.AppendUint16(*e, kind)
	*e = append(*e, value...)
	e.pad()
}

func (e *encoder) string(kind uint16, value string) {
	e.bytes(kind, append([]byte(value), 0))
}

func (e *encoder) uint32(kind uint16, value uint32) {
	e.bytes(kind, binary.BigEndian.AppendUint32(nil, value))
}

func (e *encoder) uint64(kind uint16, value uint64) {
	e.bytes(kind, binary.BigEndian.AppendUint64(nil, value))
}

// nest appends what f does as one attribute.
func (e *encoder) nest(kind uint16, f func()) {
	start := len(*e)
	*e = append(*e, 0, 0, 0, 0)
	f()
	binary.NativeEndian.PutUint16((*e)[start:], uint16(len(*e)-start))
	binary.NativeEndian.PutUint16((*e)[start+2:], kind|unix.NLA_F_NESTED)
}

func (e *encoder) pad() {
	for len(*e)%unix.NLA_ALIGNTO != 0 {
		*e = append(*e, 0)
	}
}
