package nftables

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"

	"github.com/fairway-lb/fairway/dataplane/dataplanetest"
	"github.com/fairway-lb/fairway/dataplane/service"
)

// What others do in tables of their own, and what we do in ours, is no change.
func TestOthersTables(t *testing.T) {
	c := subject.NewScene(t, dataplanetest.WithPods, nil, dataplanetest.OnPod1)
	b := c.Backend.(*Backend)
	for i := range 20 {
		nft(t, "add", "table", "ip", fmt.Sprintf("other%d", i))
		c.Set([]dataplanetest.Endpoint{dataplanetest.OnPod1(c.Lab), dataplanetest.OnPod2(c.Lab)}[i%2])
		nft(t, "delete", "table", "ip", fmt.Sprintf("other%d", i))
	}
	// The last transaction of all is one that will be noticed.
	nft(t, "add", "table", "inet", "last")
	nft(t, "delete", "table", "inet", "last")
	select {
	case <-b.Changed():
		t.Error("a change of ours or of others was taken for one of our tables by someone else")
	default:
	}
	before := b.generation
	must(t, b.Apply(nil))
	if b.generation != before {
		t.Error("applied something, though nothing changed")
	}
}

// kube-proxy's table may be there too. Where both know an address, ours is
// first.
func TestBesideKubeProxy(t *testing.T) {
	c := subject.NewScene(t, dataplanetest.WithPods, nil, dataplanetest.OnPod1)
	theirs := dataplanetest.Frontends{Number: 500}.VIP()[0].String()
	nft(t, "add", "table", "ip", "kube-proxy")
	t.Cleanup(func() { nft(t, "delete", "table", "ip", "kube-proxy") })
	nft(t, "add chain ip kube-proxy nat-prerouting { type nat hook prerouting priority -100; }")
	nft(t, "add chain ip kube-proxy nat-postrouting { type nat hook postrouting priority 100; }")
	for _, addr := range []string{theirs, c.VIP()[0].String()} {
		nft(t, "add rule ip kube-proxy nat-prerouting ip daddr", addr, "tcp dport 80 meta mark set meta mark | 0x4000 dnat to 10.244.1.2:8080")
	}
	nft(t, "add rule ip kube-proxy nat-postrouting meta mark & 0x4000 != 0 masquerade")
	c.Ask("ours", c.Client, c.VIP(), 80, dataplanetest.Translated, "pod1")
	c.Check([]dataplanetest.Cell{{What: "theirs", From: c.Client, Protocol: service.TCP, To: netip.MustParseAddrPort(theirs + ":80"), Want: []string{"remote"}, Source: dataplanetest.Translated}})
}

// Before Linux 6.2 chains stay, and are used again.
func TestChainsStay(t *testing.T) {
	c := subject.NewScene(t, dataplanetest.WithPods, dataplanetest.Sticky(time.Minute), dataplanetest.OnPod1)
	b := c.Backend.(*Backend)
	b.freesNow = false
	for range 3 {
		c.Set(dataplanetest.OnPod1(c.Lab), dataplanetest.OnPod2(c.Lab))
		c.Set()
		c.Set(dataplanetest.OnPod2(c.Lab))
	}
	c.Ask("in the end", c.Client, c.VIP(), 80, dataplanetest.Translated, "pod2")
	if !strings.Contains(list(t, "ip"), "chain external-c2-sticky {") {
		t.Error("a chain is gone")
	}
	if b.stale {
		t.Error("it took a fresh start")
	}
}

// What nft lists, it can load again: the chains of affinity aside, whose keys
// nft 1.0.6 prints and does not read.
func TestListingLoads(t *testing.T) {
	c := subject.NewScene(t, dataplanetest.WithPods, func(s *corev1.ServiceSpec) {
		dataplanetest.PolicyLocal(s)
		s.LoadBalancerSourceRanges = []string{"192.168.9.0/24", "fd00:9::/64"}
	}, dataplanetest.OnPod1, dataplanetest.OnRemote)
	want, err := content()
	must(t, err)
	var file strings.Builder
	for _, family := range []string{"ip", "ip6"} {
		listing := list(t, family)
		i, j := strings.Index(listing, "\tchain learn {"), strings.Index(listing, "\tchain nat-postrouting {")
		file.WriteString(listing[:i] + "\tchain learn {\n\t}\n\n" + listing[j:])
	}
	path := filepath.Join(t.TempDir(), "listing")
	must(t, os.WriteFile(path, []byte(file.String()), 0o644))
	nft(t, "flush", "ruleset")
	nft(t, "-f", path)
	c.Ask("loaded by nft", c.Client, c.VIP(), 80, dataplanetest.Own, "pod1")
	dataplanetest.AwaitChange(t, c.Backend)
	must(t, c.Backend.Apply(nil))
	got, err := content()
	must(t, err)
	slices.Sort(want)
	slices.Sort(got)
	dataplanetest.EqualContent(t, "made anew", got, want)
}

// Work is in proportion to the change, whatever else there is. The kernel is
// the witness: it tells of each element.
func TestSwapIsConstant(t *testing.T) {
	l := dataplanetest.NewLab(t)
	var first int
	for _, count := range []int{100, 2000} {
		b := start(t, dataplanetest.WithPods)
		s := service.NewState(dataplanetest.ThisNode)
		dataplanetest.Load(s, l, count)
		dataplanetest.Sync(t, b, s)
		conn, err := netlink.Dial(unix.NETLINK_NETFILTER, &netlink.Config{})
		must(t, err)
		must(t, conn.JoinGroup(unix.NFNLGRP_NFTABLES))
		dataplanetest.SetEndpoints(s, dataplanetest.Frontends{Number: count / 2}, dataplanetest.OnPod2(l), dataplanetest.OnRemote(l))
		begin := cpu(t)
		dataplanetest.Sync(t, b, s)
		spent := cpu(t) - begin
		told := 0
		for end := false; !end; {
			messages, err := conn.Receive()
			must(t, err)
			for _, m := range messages {
				told++
				end = end || m.Header.Type&0xff == unix.NFT_MSG_NEWGEN
			}
		}
		must(t, conn.Close())
		t.Logf("%d services: the kernel told of %d changes for one endpoint, %v of CPU", count, told, spent)
		if first == 0 {
			first = told
		}
		if told != first || told < 8 || told > 60 {
			t.Errorf("%d messages with %d services, %d with fewer", told, count, first)
		}
		list(t, "ip")
		list(t, "ip6")
		must(t, b.Apply(nil))
		must(t, Cleanup())
	}
}

func cpu(t testing.TB) time.Duration {
	t.Helper()
	var u syscall.Rusage
	must(t, syscall.Getrusage(syscall.RUSAGE_SELF, &u))
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

func TestColdStart(t *testing.T) {
	l := dataplanetest.NewLab(t)
	b := start(t, dataplanetest.WithPods)
	s := service.NewState(dataplanetest.ThisNode)
	dataplanetest.Load(s, l, 2500)
	changes := s.Changes().Ports
	runtime.GC()
	begin, clock := cpu(t), time.Now()
	must(t, b.Apply(changes))
	t.Logf("cold start: %d ports, %v of CPU, %v", len(changes), cpu(t)-begin, time.Since(clock))
	begin, clock = cpu(t), time.Now()
	b.stale = true
	must(t, b.Apply(nil))
	t.Logf("in one transaction over itself: %v of CPU, %v", cpu(t)-begin, time.Since(clock))
	for _, number := range []int{0, 1234, 2499} {
		f := dataplanetest.Frontends{Number: number}
		for family := range 2 {
			l.Check([]dataplanetest.Cell{
				{What: "cold start", From: l.Client, Protocol: service.TCP, To: netip.AddrPortFrom(f.VIP()[family], 80), Want: []string{"pod1", "remote"}, Source: dataplanetest.Translated},
				{What: "cold start", From: l.Client, Protocol: service.UDP, To: netip.AddrPortFrom(l.Node.Addrs[family], f.NodePort()), Want: []string{"pod1", "remote"}, Source: dataplanetest.Translated},
			})
		}
	}
	// So many changes of our own may have been too many to hear of all.
	must(t, b.Apply(nil))
	if b.stale {
		t.Error("took its own changes for those of others")
	}
}
