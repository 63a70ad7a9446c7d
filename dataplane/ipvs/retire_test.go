package ipvs

import (
	"errors"
	"net/netip"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/fairway-lb/fairway/dataplane/dataplanetest"
	byiptables "github.com/fairway-lb/fairway/dataplane/iptables"
	"github.com/fairway-lb/fairway/dataplane/service"
)

// Another dataplane takes over, and gives back: nobody who connects is refused,
// connections from before go on, and nothing is left when they have ended.
func testRetire(t *testing.T) {
	c := subject.NewScene(t, dataplanetest.WithPods, nil, dataplanetest.OnPod1, dataplanetest.OnRemote)
	kept := netip.MustParseAddrPort("198.18.77.1:80")
	name := service.PortName{Protocol: service.TCP}
	name.Name = "kept"
	all := []service.PortChange{{Name: name, After: &service.Port{
		Frontends: []service.Frontend{{Kind: service.LoadBalancer, Address: kept}},
		Cluster:   []netip.AddrPort{serveEcho(t, netip.AddrPortFrom(c.Node.Addrs[0], 9000))}, Usable: true}}}
	must(t, c.Backend.Apply(all))
	for name, port := range c.State.Ports() {
		all = append(all, service.PortChange{Name: name, After: port})
	}
	old := hold(t, kept)
	stop := c.Probers("pod1", "remote")

	must(t, c.Backend.Close())
	other, err := byiptables.New(dataplanetest.WithPods, byiptables.Legacy)
	must(t, err)
	end := sync.OnceFunc(func() { must(t, errors.Join(other.Close(), byiptables.Cleanup())) })
	t.Cleanup(end)
	must(t, other.Apply(all))
	for range 2 {
		<-time.After(answerTime) // of those who began before
		if err := Retire(); !errors.Is(err, ErrDraining) {
			t.Errorf("with a connection that goes on: %v", err)
		}
		old.echoes("while it is removed")
		hold(t, kept).echoes("a new one")
	}
	if left := lines(t, "virtual "+kept.String()); len(left) == 0 {
		t.Error("what forwards the connection has gone")
	}
	if left := lines(t, "address "); len(left) > 0 {
		t.Errorf("addresses are left: %v", left)
	}
	for _, table := range []string{"mangle ", "filter "} {
		if left := lines(t, table); len(left) > 0 {
			t.Errorf("rules are left: %v", left)
		}
	}
	for _, line := range lines(t, "virtual ") {
		if strings.Contains(line, "/UDP endpoint") {
			t.Errorf("left of UDP: %s", line)
		}
	}
	old.reset()
	await(t, "end of all that was there", func() bool { return Retire() == nil })
	if there, err := leftSomething(); there || err != nil {
		t.Errorf("something is left: %v, %v", there, err)
	}
	if routes, err := exec.Command("ip", "route", "show", "table", "all", "proto", "0xfa").Output(); err != nil || len(routes) > 0 {
		t.Errorf("left: %s, %v", routes, err)
	}
	if left := lines(t, ""); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
	old = hold(t, kept)
	old.echoes("a new one after all")

	c.Backend, err = subject.New(dataplanetest.WithPods)
	must(t, err)
	must(t, c.Backend.Apply(all))
	end()
	old.echoes("when IPVS is back")
	stop()
	must(t, c.Backend.Close())
}
