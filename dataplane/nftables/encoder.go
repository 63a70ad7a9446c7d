package nftables

import (
	"encoding/binary"

	"golang.org/x/sys/unix"
)

// encoder appends netlink attributes, of which nf_tables has the numbers in
// network byte order.
type encoder []byte

func (e *encoder) bytes(kind uint16, value []byte) {
	e.begin(kind, len(value))
	*e = append(*e, value...)
	e.pad()
}

// text is bytes that are in a string.
func (e *encoder) text(kind uint16, value string) {
	e.begin(kind, len(value))
	*e = append(*e, value...)
	e.pad()
}

// string ends with a zero.
func (e *encoder) string(kind uint16, value string) {
	e.begin(kind, len(value)+1)
	*e = append(*e, value...)
	*e = append(*e, 0)
	e.pad()
}

func (e *encoder) begin(kind uint16, length int) {
	*e = binary.NativeEndian.AppendUint16(*e, uint16(unix.SizeofNlAttr+length))
	*e = binary.NativeEndian.AppendUint16(*e, kind)
}

func (e *encoder) uint32(kind uint16, value uint32) {
	e.begin(kind, 4)
	*e = binary.BigEndian.AppendUint32(*e, value)
}

func (e *encoder) uint64(kind uint16, value uint64) {
	e.begin(kind, 8)
	*e = binary.BigEndian.AppendUint64(*e, value)
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
