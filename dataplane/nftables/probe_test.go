package nftables

import (
	"errors"
	"strings"
	"testing"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"

	"github.com/fairway-lb/fairway/dataplane/dataplanetest"
	"github.com/fairway-lb/fairway/dataplane/service"
	"github.com/fairway-lb/fairway/internal/netnstest"
)

func TestAtLeast(t *testing.T) {
	for release, want := range map[string]bool{"6.1.0-18-amd64": false, "6.2.0": true, "6.18.44": true, "7.0": true, "5.13": false, "?": false} {
		if got := atLeast(release, 6, 2); got != want {
			t.Errorf("%s is at least 6.2: %v", release, got)
		}
	}
}

// A kernel without something says so before anything is changed.
func TestProbe(t *testing.T) {
	netnstest.Need(t)
	s, err := dial(&netlink.Config{})
	must(t, err)
	defer s.conn.Close()
	config := dataplanetest.WithPods
	must(t, config.Check())
	for _, f := range families {
		must(t, probe(s, &config, f))
	}
	port := s.port
	bad := newProbe(service.IPv4)
	bad.addChain(service.IPv4, refuseChain)
	bad.addRule(refuseChain, bad.rule(service.IPv4).expr("unheard-of", func() {}))
	if err := s.check(bad); err == nil {
		t.Error("the kernel is said to have an expression that there is not")
	}
	if s.port != port {
		t.Errorf("port %d of the socket became %d", port, s.port)
	}
	for _, feature := range features {
		b := newProbe(service.IPv6)
		b.addChain(service.IPv6, refuseChain)
		r := b.rule(service.IPv6)
		feature.use(b, r)
		if len(r.encoder) > 0 {
			b.addRule(refuseChain, r)
		}
		if err := s.check(b); err != nil {
			t.Errorf("%s: %v", feature.name, err)
		}
	}
	if has, err := s.hasTable(netfilterFamily(service.IPv4)); err != nil || has {
		t.Errorf("a probe left a table: %v, %v", has, err)
	}
	err = missing([]string{"fib for IPv6"})
	if !errors.Is(err, errMissing) || !strings.Contains(err.Error(), "lacks fib for IPv6; use") {
		t.Error(err)
	}
}

// A speaker that may not change the kernel is told what it lacks.
func TestWithoutCapability(t *testing.T) {
	netnstest.Need(t)
	err := netnstest.Without(unix.CAP_NET_ADMIN, func() error {
		b, err := New(dataplanetest.WithPods)
		if err == nil {
			err = b.Apply(nil)
		}
		return err
	})
	if err == nil || !strings.Contains(err.Error(), "the nftables backend needs CAP_NET_ADMIN") {
		t.Errorf("the error is %v", err)
	}
}
