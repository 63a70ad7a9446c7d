package ipvs

import (
	"net/netip"
	"testing"

	"github.com/fairway-lb/fairway/dataplane/service"
)

// An address is needed until the last of what drains there is gone.
func TestDraining(t *testing.T) {
	at := netip.MustParseAddrPort("198.18.0.1:80")
	tcp, udp := virtualKey{protocol: service.TCP, address: at}, virtualKey{protocol: service.UDP, address: at, within: true}
	b := &Backend{draining: newDraining()}
	for _, step := range []struct {
		change  func(virtualKey)
		k       virtualKey
		lingers bool
	}{
		{b.draining.remove, tcp, false},
		{b.draining.add, tcp, true},
		{b.draining.add, tcp, true},
		{b.draining.add, udp, true},
		{b.draining.remove, tcp, true},
		{b.draining.remove, tcp, true},
		{b.draining.remove, udp, false},
	} {
		step.change(step.k)
		if got := b.lingers(at.Addr()); got != step.lingers {
			t.Errorf("%v: %v", step, got)
		}
	}
}
