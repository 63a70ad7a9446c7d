package ipvs

import (
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/mdlayher/netlink"
	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

// errNotLocal is that of addresses that are on our link, but not yet the node's.
var errNotLocal = errors.New("packets may be sent on rather than taken in")

// localTimeout is far more than a kernel takes that has many addresses to add.
const localTimeout = 10 * time.Second

// localRoutes hears of addresses of IPv6 that become the node's own. The kernel
// adds their local routes in the background, after it has said that it is done:
// until then it sends what comes to them by a route of others.
type localRoutes struct{ conn *netlink.Conn }

func listenLocalRoutes() (*localRoutes, error) {
	// A router has news of many more routes than these.
	const routeType = unix.NLMSG_HDRLEN + 7 // of struct rtmsg
	filter, err := bpf.Assemble([]bpf.Instruction{
		bpf.LoadAbsolute{Off: routeType, Size: 1},
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: unix.RTN_LOCAL, SkipFalse: 1},
		bpf.RetConstant{Val: 1 << 16},
		bpf.RetConstant{Val: 0},
	})
	if err != nil {
		return nil, fmt.Errorf("assemble a filter of routes: %w", err)
	}
	conn, err := netlink.Dial(unix.NETLINK_ROUTE, nil)
	if err != nil {
		return nil, fmt.Errorf("open a netlink socket for routes: %w", err)
	}
	if err := errors.Join(conn.SetBPF(filter), conn.JoinGroup(unix.RTNLGRP_IPV6_ROUTE)); err != nil {
		return nil, errors.Join(fmt.Errorf("listen to local routes: %w", err), conn.Close())
	}
	return &localRoutes{conn}, nil
}

func (r *localRoutes) close() error { return r.conn.Close() }

// await waits until addresses that were added since are the node's own.
func (r *localRoutes) await(addrs []netip.Addr) error {
	waiting := make(map[netip.Addr]struct{}, len(addrs))
	for _, addr := range addrs {
		waiting[addr] = struct{}{}
	}
	err := r.conn.SetReadDeadline(time.Now().Add(localTimeout))
	for err == nil && len(waiting) > 0 {
		var news []netlink.Message
		news, err = r.conn.Receive()
		for _, m := range news {
			if addr, is := newLocal(m); is {
				delete(waiting, addr)
			}
		}
	}
	if err != nil {
		return fmt.Errorf("wait for the local routes of %d addresses of the link %s: %w: %w", len(waiting), linkName, errNotLocal, err)
	}
	return nil
}

// newLocal returns the address that a message says is the node's own from now on.
func newLocal(m netlink.Message) (addr netip.Addr, is bool) {
	const header = 12 // struct rtmsg
	if m.Header.Type != unix.RTM_NEWROUTE || len(m.Data) < header {
		return addr, false
	}
	d, err := netlink.NewAttributeDecoder(m.Data[header:])
	if err != nil {
		return addr, false
	}
	for d.Next() {
		if d.Type() == unix.RTA_DST {
			addr, is = netip.AddrFromSlice(d.Bytes())
		}
	}
	return addr, is
}
