package service

import discoveryv1 "k8s.io/api/discovery/v1"

// conditions are those of one endpoint.
type conditions uint8

const (
	conditionReady conditions = 1 << iota
	conditionServing
	conditionTerminating
)

// readConditions reads the conditions of an endpoint. An absent one means
// ready, serving and not terminating, as the discovery API defines.
func readConditions(c *discoveryv1.EndpointConditions) (is conditions) {
	if c.Ready == nil || *c.Ready {
		is |= conditionReady
	}
	if c.Serving == nil || *c.Serving {
		is |= conditionServing
	}
	if c.Terminating != nil && *c.Terminating {
		is |= conditionTerminating
	}
	return is
}

// ready tells whether the endpoint gets traffic.
func (c conditions) ready() bool { return c&conditionReady != 0 }

func (c conditions) terminating() bool { return c&conditionTerminating != 0 }

// fallback tells whether the endpoint gets traffic while no other of its set
// is ready: it is about to go, but serves (KEP-1669).
func (c conditions) fallback() bool {
	return c&(conditionReady|conditionServing|conditionTerminating) == conditionServing|conditionTerminating
}

// answers tells whether the endpoint may still be in use by those who have
// reached it before, policy or not. A ready one is: it gets new traffic even
// if it does not say that it serves (publishNotReadyAddresses).
func (c conditions) answers() bool { return c&(conditionReady|conditionServing) != 0 }
