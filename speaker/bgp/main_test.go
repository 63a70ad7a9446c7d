// Go's listeners are of MPTCP where the kernel has it, and such a socket takes no
// TCP MD5 password. The program that this is for says the same.

//go:debug multipathtcp=0
package bgp

import (
	"fmt"
	"net"
	"os"
	"testing"

	"github.com/vishvananda/netlink"

	"github.com/fairway-lb/fairway/internal/netnstest"
)

func TestMain(m *testing.M) {
	if err := upLoopback(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	netnstest.Main(m)
}

// upLoopback is for the namespace of the tests, where the loopback is down at
// first.
func upLoopback() error {
	lo, err := netlink.LinkByName("lo")
	if err != nil || lo.Attrs().Flags&net.FlagUp != 0 {
		return err
	}
	return netlink.LinkSetUp(lo)
}
