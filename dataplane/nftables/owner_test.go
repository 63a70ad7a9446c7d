package nftables

import (
	"errors"
	"os"
	"strings"
	"testing"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"

	"github.com/fairway-lb/fairway/dataplane"
	"github.com/fairway-lb/fairway/dataplane/dataplanetest"
	"github.com/fairway-lb/fairway/dataplane/service"
	"github.com/fairway-lb/fairway/internal/netnstest"
)

// A table of our name that belongs to another process is left to it, and the
// error says what to do.
func TestOwnedTable(t *testing.T) {
	l := dataplanetest.NewLab(t)
	owner, err := dial(&netlink.Config{})
	must(t, err)
	owned := newBatch()
	var e encoder
	e.string(unix.NFTA_TABLE_NAME, tableName)
	e.uint32(unix.NFTA_TABLE_FLAGS, tableOwner)
	owned.add(unix.NFT_MSG_NEWTABLE, netlink.Create, service.IPv4, e)
	must(t, owner.commit(owned, 0))
	b := start(t, dataplanetest.WithPods)
	s := service.NewState(dataplanetest.ThisNode)
	dataplanetest.Load(s, l, 1)
	err = b.Apply(s.Changes().Ports)
	if !errors.Is(err, os.ErrPermission) || !strings.Contains(err.Error(), "stop it") {
		t.Errorf("got %v, want an error that says who has the table", err)
	}
	must(t, owner.conn.Close())
	must(t, b.Apply(nil))
}

// Where IPv6 is disabled there is no table of it.
func TestWithoutIPv6(t *testing.T) {
	netnstest.Need(t)
	const sysctl = "/proc/sys/net/ipv6/conf/all/disable_ipv6"
	must(t, os.WriteFile(sysctl, []byte("1"), 0o644))
	t.Cleanup(func() { must(t, os.WriteFile(sysctl, []byte("0"), 0o644)) })
	b := start(t, dataplane.Config{})
	must(t, b.Apply(nil))
	if list(t, "ip") == "" || list(t, "ip6") != "" {
		t.Error("of the tables, that of IPv4 is to be there alone")
	}
}
