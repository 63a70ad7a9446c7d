package ipvs

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/fairway-lb/fairway/api/v1alpha2"
	"github.com/fairway-lb/fairway/dataplane/dataplanetest"
	"github.com/fairway-lb/fairway/dataplane/service"
)

// A node that lacks something for IPv6 serves IPv4, and says so.
func testIPv4Only(t *testing.T) {
	folder := t.TempDir()
	for _, program := range []string{"iptables-legacy-save", "iptables-legacy-restore", "modprobe"} {
		path, err := exec.LookPath(program)
		must(t, err)
		must(t, os.Symlink(path, filepath.Join(folder, program)))
	}
	t.Setenv("PATH", folder)
	config := dataplanetest.WithPods
	config.ServiceCIDRs = dataplanetest.Prefixes("10.96.0.0/16", "fd00:96::/112")
	c := subject.NewScene(t, config, dataplanetest.PolicyLocal, dataplanetest.OnPod1)
	if err := c.Backend.Unserved(service.IPv4); err != nil {
		t.Error(err)
	}
	if err := c.Backend.Unserved(service.IPv6); err == nil || !strings.Contains(err.Error(), "IPv6 Services are not served") || !strings.Contains(err.Error(), "ip6tables") {
		t.Errorf("without ip6tables: %v", err)
	}
	vip := [2]netip.Addr{c.VIP()[0], c.VIP()[0]}
	c.Ask("IPv4", c.Client, vip, 80, dataplanetest.Own, "pod1")
	want := lines(t, "")
	for _, line := range want {
		if strings.Contains(line, "fd00:") {
			t.Errorf("of IPv6: %s", line)
		}
	}
	must(t, command("/usr/sbin/ipset", "flush", setName(servicesSet, service.IPv4)))
	must(t, c.Backend.Apply(nil))
	dataplanetest.EqualContent(t, "made good", lines(t, ""), want)
}

// What doc.go says of addresses of Services, and that others' rules see.
func testAddressesOfServices(t *testing.T) {
	c := subject.NewScene(t, dataplanetest.WithPods, dataplanetest.PolicyLocal, dataplanetest.OnRemote)
	for family, vip := range c.VIP() {
		if err := ping(service.Family(family), vip); err != nil {
			t.Errorf("ping %v: %v", vip, err)
		}
	}
	c.Ask("another port", c.Client, c.VIP(), 81, "", dataplanetest.Reject)
	vip := [2]netip.Addr{c.VIP()[0], c.VIP()[0]}
	ask := func(what, want string) {
		t.Helper()
		c.AskBy(what, service.TCP, c.Pod3, vip, 80, dataplanetest.Own, want)
	}
	ask("without a rule of others", "remote")
	for _, rule := range []struct{ spec, want string }{
		{"filter INPUT -p tcp -d " + vip[0].String() + " -j DROP", dataplanetest.Drop},
		// After our own, as a rule of filter would be.
		{"mangle INPUT -j MARK --set-xmark 0x0/0xf0000", "remote"},
		{"mangle INPUT -j MARK --set-xmark 0x80000000/0x80000000", "remote"}, // is set already
		{"mangle INPUT -j MARK --set-xmark 0x8000/0x8000", dataplanetest.Reject},
	} {
		table, rest, _ := strings.Cut(rule.spec, " ")
		change := func(verb string) {
			must(t, command(append([]string{"iptables-legacy", "-w", "-t", table, verb}, strings.Fields(rest)...)...))
		}
		change("-A")
		ask(rule.spec, rule.want)
		change("-D")
	}
}

// ping asks an address of the node.
func ping(family service.Family, addr netip.Addr) error {
	network, request, reply := "ip4:icmp", byte(8), byte(0)
	if family == service.IPv6 {
		network, request, reply = "ip6:ipv6-icmp", 128, 129
	}
	to := &net.IPAddr{IP: addr.AsSlice()}
	conn, err := net.ListenIP(network, nil)
	if err != nil {
		return err
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
		return err
	}
	// The checksum is the kernel's for IPv6.
	if _, err := conn.WriteTo([]byte{request, 0, ^request, 0xff, 0, 0, 0, 0}, to); err != nil {
		return err
	}
	buffer := make([]byte, 100)
	for {
		n, from, err := conn.ReadFrom(buffer)
		if err != nil {
			return err
		}
		if n > 0 && buffer[0] == reply && from.String() == to.String() {
			return nil
		}
	}
}

// The scheduler dh breaks the flows of an endpoint that is removed, so that it
// goes at once.
func testDestinationHash(t *testing.T) {
	c := subject.NewScene(t, dataplanetest.WithPods, nil, dataplanetest.OnPod1)
	annotated(c, map[string]string{v1alpha2.AnnotationScheduler: "dh"})
	dataplanetest.Sync(t, c.Backend, c.State)
	to := netip.AddrPortFrom(c.VIP()[0], 80)
	c.Client.Dial(service.TCP, to) // remembered for two minutes
	c.Set(dataplanetest.OnPod2(c.Lab))
	if left := lines(t, fmt.Sprintf("virtual %s/TCP endpoint %s", to, c.Pod1.Addrs[0])); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
	c.Ask("dh", c.Client, c.VIP(), 80, dataplanetest.Translated, "pod2")
}

// While a Service gets another scheduler, connections that begin are answered, or
// refused for a moment, and none gets lost.
func testSchedulerChange(t *testing.T) {
	c := subject.NewScene(t, dataplanetest.WithPods, nil, dataplanetest.OnPod1)
	stop := c.Probers("pod1", dataplanetest.Reject)
	for range 10 {
		for _, scheduler := range []string{"wlc", "mh", "sed", "rr"} {
			annotated(c, map[string]string{v1alpha2.AnnotationScheduler: scheduler})
			dataplanetest.Sync(t, c.Backend, c.State)
		}
	}
	stop()
	c.Ask("afterwards", c.Client, c.VIP(), 80, dataplanetest.Translated, "pod1")
}
