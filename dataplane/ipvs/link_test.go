package ipvs

import (
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/fairway-lb/fairway/internal/netnstest"
)

// A link that answers ARP, as one that was not finished, is mended.
func TestLinkWithoutARP(t *testing.T) {
	netnstest.Need(t)
	handle, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	must(t, err)
	defer handle.Close()
	attrs := netlink.NewLinkAttrs()
	attrs.Name = linkName
	must(t, handle.LinkAdd(&netlink.Veth{LinkAttrs: attrs, PeerName: "peer"})) // not every machine has dummy
	l := &link{handle: handle}
	defer func() { must(t, l.remove()) }()
	must(t, l.ensure())
	now, err := handle.LinkByName(linkName)
	must(t, err)
	if now.Attrs().RawFlags&unix.IFF_NOARP == 0 {
		t.Errorf("%s answers ARP", linkName)
	}
}
