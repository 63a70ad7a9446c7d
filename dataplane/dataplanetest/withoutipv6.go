package dataplanetest

import (
	"errors"
	"net/netip"
	"os"
	"strings"
	"testing"

	"github.com/fairway-lb/fairway/dataplane"
	"github.com/fairway-lb/fairway/dataplane/service"
)

// WithoutIPv6 shows that a backend serves IPv4 on a node on which sysctls disable
// IPv6, and says so. With IPv6 again, the next backend serves both. It is no part
// of Run, because it takes the addresses of a lab.
func WithoutIPv6(t *testing.T, subject Subject) {
	l := subject.Lab(t)
	disableIPv6(t, "1")
	c := subject.newScene(t, l, WithPods, nil, OnPod1)
	if err := c.Backend.Unserved(service.IPv4); err != nil {
		t.Error(err)
	}
	err := c.Backend.Unserved(service.IPv6)
	if !errors.Is(err, dataplane.ErrNoIPv6) || !strings.Contains(err.Error(), "IPv6 Services are not served") || !strings.Contains(err.Error(), "net.ipv6.conf.all.disable_ipv6=0") {
		t.Errorf("unserved: %v", err)
	}
	vip, clusterIP := c.VIP()[0], c.ClusterIP()[0]
	c.Ask("load balancer", c.Client, [2]netip.Addr{vip, vip}, 80, Translated, "pod1")
	c.Set(OnPod2(l))
	must(t, c.Backend.Apply(nil))
	c.Ask("cluster IP", c.Pod3, [2]netip.Addr{clusterIP, clusterIP}, 80, Own, "pod2")
	for _, line := range subject.content(t) {
		if strings.Contains(line, "fd00:") {
			t.Errorf("of IPv6: %s", line)
		}
	}

	disableIPv6(t, "0")
	must(t, c.Backend.Apply(nil))
	b, err := subject.New(WithPods)
	must(t, err)
	must(t, c.Backend.Close())
	*c.backend, c.Backend = b, b
	if err := b.Unserved(service.IPv6); err != nil {
		t.Error(err)
	}
	must(t, b.Apply(everything(c.State)))
}

// disableIPv6 sets the sysctl of all links, and of those to come, until the test
// ends.
func disableIPv6(t *testing.T, value string) {
	t.Helper()
	const sysctl = "/proc/sys/net/ipv6/conf/all/disable_ipv6"
	must(t, os.WriteFile(sysctl, []byte(value), 0o644))
	t.Cleanup(func() { must(t, os.WriteFile(sysctl, []byte("0"), 0o644)) })
}
