package e2e

import (
	"net/netip"
	"testing"
	"time"
)

// apiOutage is how long the API server is away.
const apiOutage = 30 * time.Second

// TestAPIServerStopped takes the API server away for 30 s and kills the owner
// of an address in that time: the address is answered for throughout, but for
// the failover, and pods are reached. When the API server is back, new
// Services get addresses again.
func TestAPIServerStopped(t *testing.T) {
	c := newServed(t)
	owner := c.ownerOf("192.168.93.231")
	prober, err := c.Probe(netip.MustParseAddr("192.168.93.231"), probeInterval)
	if err != nil {
		t.Fatalf("watching the wire: %v", err)
	}

	if err := c.StopAPIServer(t.Context()); err != nil {
		t.Fatal(err)
	}
	stopped := time.Now()
	before := time.NewTimer(apiOutage / 2)
	defer before.Stop()
	after := time.NewTimer(apiOutage)
	defer after.Stop()

	<-before.C
	c.reaches("http://192.168.93.231/", "nginx-n1", "nginx-n2", "nginx-n3")
	if err := c.speakers[owner].Kill(); err != nil {
		t.Fatal(err)
	}
	killed := time.Now()
	c.answersFrom(prober, killed, "another node than "+owner, func(host string) bool { return host != owner })
	c.reaches("http://192.168.93.231/", "nginx-n1", "nginx-n2", "nginx-n3")
	<-after.C

	seen, err := prober.Stop()
	if err != nil {
		t.Fatalf("watching the wire: %v", err)
	}
	c.oneOwnerAtATime(seen)
	if handovers := seen.Handovers(); len(handovers) != 1 {
		t.Errorf("changes of the owner in %v without API server: %v, want the one of the failover", time.Since(stopped), handovers)
	}
	if silence := seen.LongestSilence(); silence > failoverBound {
		t.Errorf("nobody answered for %v", silence)
	}

	if err := c.StartAPIServer(t.Context()); err != nil {
		t.Fatal(err)
	}
	// The controller ends when it cannot renew its lease, as the kubelet, which
	// the lab has none of, expects; it starts it again.
	select {
	case <-c.controller.Done():
		c.startController()
	default:
	}
	c.startSpeaker(owner)
	c.apply(loadBalancer("afterwards", "nginx", fromPool("eip-pool")))
	c.hasIP("dev", "afterwards", "192.168.93.232")
	c.hasIP("dev", "svc-lb", "192.168.93.231")
	c.reaches("http://192.168.93.232/", "nginx-n1", "nginx-n2", "nginx-n3")
}
