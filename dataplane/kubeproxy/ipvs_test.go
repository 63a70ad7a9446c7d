package kubeproxy

import (
	"context"
	"errors"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"

	"github.com/fairway-lb/fairway/dataplane/service"
)

// TestRemoveIPVS has the link of kube-proxy, which here is a bridge, because a
// kernel may have no dummies, with an address of a Service and some sets.
func TestRemoveIPVS(t *testing.T) {
	loopback(t)
	clean(t)
	address(t, "lo", "192.0.2.9/32") // of the node
	attrs := netlink.NewLinkAttrs()
	attrs.Name = ipvsLink
	if err := netlink.LinkAdd(&netlink.Bridge{LinkAttrs: attrs}); err != nil {
		t.Fatal(err)
	}
	address(t, ipvsLink, "192.0.2.1/32")
	address(t, ipvsLink, "2001:db8::1/128")
	for _, f := range families() {
		createSets(t, f.setPrefix)
	}
	left := func() (all []string) {
		t.Helper()
		found, err := Leftovers(t.Context())
		if err != nil {
			t.Error(err)
		}
		for _, l := range found {
			all = append(all, l.Names...)
			if l.Mode != modeIPVS {
				t.Errorf("the mode of %s is %s", l, l.Mode)
			}
		}
		return all
	}
	if got := left(); strings.Join(got, " ") != "kube-ipvs0 KUBE-6-CLUSTER-IP KUBE-6-IPVS-IPS KUBE-6-NODE-PORT-TCP KUBE-CLUSTER-IP KUBE-IPVS-IPS KUBE-NODE-PORT-TCP" {
		t.Errorf("left is %q", got)
	}

	// What tells which virtual services are kube-proxy's stays until they are
	// gone.
	before := len(left())
	refused := errors.New("refused")
	for want, config := range map[error]Config{
		errNoHook: {},
		refused:   {func(func(service.Protocol, netip.AddrPort) bool) error { return refused }},
	} {
		if err := Remove(t.Context(), config); !errors.Is(err, want) {
			t.Errorf("the error is %v, want %v", err, want)
		}
		if len(left()) != before {
			t.Errorf("after %v, left is %q", want, left())
		}
	}

	called := 0
	hook := func(kubeProxys func(service.Protocol, netip.AddrPort) bool) error {
		called++
		for _, v := range []struct {
			protocol service.Protocol
			at       string
			want     bool
		}{
			{service.TCP, "192.0.2.1:80", true},
			{service.UDP, "192.0.2.1:53", true},
			{service.TCP, "[2001:db8::1]:80", true},
			{service.TCP, "10.96.0.1:80", true}, // in a set, on no link
			{service.UDP, "10.96.0.1:80", false},
			{service.TCP, "10.96.0.1:81", false},
			{service.TCP, "[fd00::1]:80", true},
			{service.TCP, "192.0.2.9:30080", true}, // the node port
			{service.UDP, "192.0.2.9:30080", false},
			{service.TCP, "192.0.2.9:443", false}, // keepalived's, say
			{service.TCP, "192.0.2.10:30080", false},
		} {
			if got := kubeProxys(v.protocol, netip.MustParseAddrPort(v.at)); got != v.want {
				t.Errorf("kube-proxy's is %s %s: %t, want %t", v.protocol, v.at, got, v.want)
			}
		}
		return nil
	}
	for range 2 {
		if err := Remove(t.Context(), Config{hook}); err != nil {
			t.Fatal(err)
		}
	}
	if got := left(); len(got) > 0 || called != 1 {
		t.Errorf("left is %q, the hook was called %d times", got, called)
	}
	if _, err := netlink.LinkByName(ipvsLink); !gone(err) {
		t.Errorf("the link: %v", err)
	}
}

// A set that a rule of someone else uses cannot go.
func TestSetInUse(t *testing.T) {
	loopback(t)
	clean(t)
	createSets(t, "KUBE-")
	restore(t, "iptables-nft", "*filter\n-A INPUT -m set --match-set KUBE-IPVS-IPS dst -j ACCEPT\nCOMMIT\n")
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	err := destroySet(ctx, "KUBE-IPVS-IPS")
	if err == nil || !strings.Contains(err.Error(), "destroy ipset KUBE-IPVS-IPS: a rule that is not kube-proxy's uses it") {
		t.Errorf("the error is %v", err)
	}
	// As soon as the rule is gone, it can.
	freed := time.AfterFunc(2*busyInterval, func() { nft(t, "flush chain ip filter INPUT") })
	defer freed.Stop()
	if err := destroySet(t.Context(), "KUBE-IPVS-IPS"); err != nil {
		t.Error(err)
	}
	if err := destroySet(t.Context(), "KUBE-IPVS-IPS"); err != nil {
		t.Errorf("one that is not there: %v", err)
	}
}

func TestNodePortProtocol(t *testing.T) {
	protocols := map[service.Protocol]int{}
	for _, name := range setNames() {
		if p, ok := nodePortProtocol(name); ok {
			protocols[p]++
		}
	}
	// Plain and local, of both families.
	for _, p := range []service.Protocol{service.TCP, service.UDP, service.SCTP} {
		if protocols[p] != 4 {
			t.Errorf("%d sets of node ports of %s", protocols[p], p)
		}
	}
	if len(protocols) != 3 {
		t.Errorf("protocols %v", protocols)
	}
}

func address(t *testing.T, link, text string) {
	t.Helper()
	l, err := netlink.LinkByName(link)
	if err != nil {
		t.Fatal(err)
	}
	addr, err := netlink.ParseAddr(text)
	if err != nil {
		t.Fatal(err)
	}
	if err := netlink.AddrAdd(l, addr); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := netlink.AddrDel(l, addr); err != nil && link == "lo" { // the other is gone with the link
			t.Error(err)
		}
	})
}
