package iptables

import (
	"fmt"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/fairway-lb/fairway/dataplane/service"
)

// tableSize is how much there is in a table of flavour legacy, and where its
// hooks begin. It costs the kernel nothing to tell, and whoever adds or removes
// a rule changes it.
type tableSize struct {
	hooks, underflow [5]uint32
	entries, size    uint32
}

// getInfo is IPT_SO_GET_INFO, and IP6T_SO_GET_INFO.
const getInfo = 64

// tableInfo is struct ipt_getinfo.
type tableInfo struct {
	name       [32]byte
	validHooks uint32
	tableSize
}

// sizes are those of the tables of a side. nf_tables tells of changes itself.
func (s *side) sizes() (sizes [tableCount]tableSize) {
	if s.tool.flavour != Legacy {
		return sizes
	}
	domain := unix.AF_INET
	if s.family == service.IPv6 {
		domain = unix.AF_INET6
	}
	fd, err := unix.Socket(domain, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return sizes // the look at all rules, once in a while, has to do
	}
	defer unix.Close(fd)
	for i, name := range tableNames {
		if size, err := sizeOf(fd, s.family, name); err == nil {
			sizes[i] = size
		}
	}
	return sizes
}

func sizeOf(fd int, family service.Family, table string) (tableSize, error) {
	level := unix.IPPROTO_IP
	if family == service.IPv6 {
		level = unix.IPPROTO_IPV6
	}
	var info tableInfo
	copy(info.name[:], table)
	length := uint32(unsafe.Sizeof(info))
	_, _, errno := unix.Syscall6(unix.SYS_GETSOCKOPT, uintptr(fd), uintptr(level), getInfo,
		uintptr(unsafe.Pointer(&info)), uintptr(unsafe.Pointer(&length)), 0)
	if errno != 0 {
		return tableSize{}, fmt.Errorf("ask for the size of table %s: %w", table, syscall.Errno(errno))
	}
	return info.tableSize, nil
}
