package speaker

import (
	"context"
	"fmt"
	"net/netip"

	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/event"
)

// awaitForwarding returns when the node forwards traffic. Neighbors that kept
// the routes of a former process would lose those that are announced late.
func (s *Speaker) awaitForwarding(ctx context.Context) error {
	if s.Forwarding == nil {
		return nil
	}
	select {
	case <-s.Forwarding:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("waiting until this node forwards traffic: %w", ctx.Err())
	}
}

// withdrawn tells the dataplane which of some addresses nobody is sent to this
// node for any more. Their routes, if any, have been withdrawn.
func (s *Speaker) withdrawn(addresses []netip.Addr) {
	if s.Readiness == nil || len(addresses) == 0 {
		return
	}
	held := s.Held.Addresses()
	for _, addr := range addresses {
		_, answers := held[addr]
		_, claims := s.owned[addr]
		if !answers && !claims && !s.announcer.routes.Has(addr) {
			s.Readiness.Withdrawn(addr)
		}
	}
}

// ForwardingChanged has the speaker look at a Service again, since the node
// forwards traffic for its addresses now or is about to do so no longer.
func (s *Speaker) ForwardingChanged(ctx context.Context, service types.NamespacedName) {
	s.pass(ctx, request{kind: oneService, service: service})
}

// FitnessChanged has the speaker look at everything again, since the node's
// kernel follows the Services now, or does so no longer.
func (s *Speaker) FitnessChanged(ctx context.Context) { s.pass(ctx, request{kind: everything}) }

// pass hands a request to the worker, while there is one.
func (s *Speaker) pass(ctx context.Context, r request) {
	select {
	case s.forwarding <- event.TypedGenericEvent[request]{Object: r}:
	case <-ctx.Done():
	}
}
