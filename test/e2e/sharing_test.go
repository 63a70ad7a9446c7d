package e2e

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/fairway-lb/fairway/test/lab"
)

// TestSharing: several Services on one address, several addresses on one
// Service, and an Eip of which the nodes can announce a part.
func TestSharing(t *testing.T) {
	c := newCluster(t, 3)
	c.startController()
	for _, node := range c.Nodes() {
		// This is not about failures: on a busy machine, none is to be suspected.
		c.startSpeaker(node.Name(), "--probe-interval=1s")
	}
	c.kubectl("create", "namespace", "dev")
	c.pods("dev", "nginx", "n1", "n2", "n3")
	all := []string{"nginx-n1", "nginx-n2", "nginx-n3"}
	c.apply(eip("eip-pool", "192.168.93.231-192.168.93.238"))

	key := sharing("k")
	c.run("two Services on one address", func(t *testing.T) {
		c.apply(loadBalancer("first", "nginx", fromPool("eip-pool"), key))
		c.hasIP("dev", "first", "192.168.93.231")
		c.apply(onPort(loadBalancer("second", "nginx", fromPool("eip-pool"), key), 81))
		c.hasIP("dev", "second", "192.168.93.231")
		c.reaches("http://192.168.93.231:80/", all...)
		c.reaches("http://192.168.93.231:81/", all...)
		owner := c.ownerOf("192.168.93.231")
		for _, name := range []string{"first", "second"} {
			c.hasEvent("Service", "dev", name, "Normal SetBalancer", "node "+owner+" announces 192.168.93.231 on eth33")
		}
	})
	c.run("one without endpoints leaves the others alone", func(t *testing.T) {
		c.apply(onPort(loadBalancer("idle", "nothing", fromPool("eip-pool"), key), 82))
		c.hasIP("dev", "idle", "192.168.93.231")
		c.hasEvent("Service", "dev", "idle", "Warning SetBalancer",
			"192.168.93.231 is announced for Service dev/first, but Service dev/idle is not reached at it: the Service has no ready endpoint")
		c.reaches("http://192.168.93.231:80/", all...)
		c.reaches("http://192.168.93.231:81/", all...)
	})
	c.run("the others do not notice that one goes", func(t *testing.T) {
		probes := c.probe("192.168.93.231")
		deleted := make(chan error, 1)
		go func() {
			_, err := c.Kubectl(t.Context(), "", "delete", "svc", "-n", "dev", "first", "idle", "--timeout=60s")
			deleted <- err
		}()
		// 20 more after both are gone.
		for rest := 20; rest > 0; {
			if body, err := c.Get(t.Context(), "http://192.168.93.231:81/"); err != nil || !strings.HasPrefix(body, "nginx-") {
				t.Errorf("the Service that stays: %q, %v", body, err)
				rest--
			}
			select {
			case err := <-deleted:
				if err != nil {
					t.Fatalf("deleting the others: %v", err)
				}
				deleted = nil
			default:
			}
			if deleted == nil {
				rest--
			}
		}
		probes.allAnswered()
		c.hasIP("dev", "second", "192.168.93.231")
		c.kubectl("delete", "svc", "-n", "dev", "second", "--timeout=60s")
		c.noOwner("192.168.93.231")
	})
	c.run("a Service with an address of each family of one Eip", func(t *testing.T) {
		c.apply(eip("both", "192.168.93.240-192.168.93.241", "addresses: ['fd93::240/127']"))
		c.apply(dualStack("dual", "IPv6, IPv4", fromPool("both")))
		c.hasIP("dev", "dual", "fd93::240,192.168.93.240")
		c.reaches("http://192.168.93.240/", all...)
		c.reaches("http://[fd93::240]/", all...)
		for _, addr := range []string{"192.168.93.240", "fd93::240"} {
			c.hasEvent("Service", "dev", "dual", "Normal SetBalancer", "node "+c.ownerOf(addr)+" announces "+addr+" on eth33")
		}
	})
	c.run("and of two Eips", func(t *testing.T) {
		c.apply(eip("six", "fd93::231-fd93::238"))
		c.apply(dualStack("dual2", "IPv4, IPv6", fromPool("eip-pool,six")))
		c.hasIP("dev", "dual2", "192.168.93.231,fd93::231")
		c.reaches("http://192.168.93.231/", all...)
		c.reaches("http://[fd93::231]/", all...)
	})
	c.run("an Eip with one block in the nodes' subnet, and one that is not", func(t *testing.T) {
		c.apply(eip("blocks", "203.0.113.0/29"))
		c.hasEvent("Eip", "", "blocks", "Warning ConfigSpeakerFailed", "node n1 cannot announce 203.0.113.0/29: in no subnet of interface eth33")
		c.apply(eip("blocks", "203.0.113.0/29", "addresses: [192.168.93.245]"))
		for _, node := range c.Nodes() {
			c.hasEvent("Eip", "", "blocks", "Warning ConfigSpeakerFailed",
				"node "+node.Name()+" cannot announce 203.0.113.0/29: in no subnet of interface eth33", "it can announce the Eip's other addresses")
		}
		c.apply(loadBalancer("inside", "nginx", fromPool("blocks"), wantsAddress("192.168.93.245")))
		c.apply(loadBalancer("outside", "nginx", fromPool("blocks"), wantsAddress("203.0.113.1")))
		c.hasIP("dev", "inside", "192.168.93.245")
		c.reaches("http://192.168.93.245/", all...)
		c.hasIP("dev", "outside", "203.0.113.1")
		c.hasEvent("Service", "dev", "outside", "Warning SetBalancer", "203.0.113.1 is not announced", "node n1 has no usable interface for it")
		c.noOwner("203.0.113.1")
		c.kubectl("patch", "eip", "blocks", "--type=merge", "-p", `{"spec":{"allowOffSubnet":true}}`)
		c.ownerOf("203.0.113.1")
		c.hasEvent("Eip", "", "blocks", "Normal ConfigSpeaker", "node n1 can announce the Eip's addresses again")
	})
}

// dualStack is a document of loadBalancer that needs an address of each of the
// families, the first of them first.
func dualStack(name, families string, annotations ...string) string {
	return with(loadBalancer(name, "nginx", annotations...), "ipFamilyPolicy: RequireDualStack", "ipFamilies: ["+families+"]")
}

// probes ask for an address all the time.
type probes struct {
	*cluster
	asking *lab.Prober
	heard  *lab.Recorder // goes on when the asking has ended
}

func (c *cluster) probe(addr string) probes {
	c.t.Helper()
	p := probes{cluster: c}
	var err error
	if p.heard, err = c.Client().Record(netip.MustParseAddr(addr)); err == nil {
		p.asking, err = c.Probe(netip.MustParseAddr(addr), probeInterval)
	}
	if err != nil {
		c.t.Fatalf("watching the wire: %v", err)
	}
	return p
}

// allAnswered ends the probes, and fails the test unless all were answered, by
// one host.
func (p probes) allAnswered() {
	p.t.Helper()
	if _, err := p.asking.Stop(); err != nil {
		p.t.Fatalf("asking: %v", err)
	}
	ctx, cancel := contextWithTimeout(p.t)
	defer cancel()
	seen, missing := p.heard.Wait(ctx, func(seen lab.Observations) bool {
		return len(seen.Requests()) == len(seen.Replies())
	})
	if _, err := p.heard.Stop(); err != nil {
		p.t.Fatalf("watching the wire: %v", err)
	}
	if missing != nil || len(seen) == 0 {
		p.t.Errorf("of %d probes %d were answered: %v", len(seen.Requests()), len(seen.Replies()), seen)
	}
	if handovers := seen.Handovers(); len(handovers) > 0 {
		p.t.Errorf("the owner changed: %v", handovers)
	}
}
