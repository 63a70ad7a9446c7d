package service

import (
	"slices"

	"k8s.io/apimachinery/pkg/types"
)

// Changes are what a backend has to do, all sorted by name.
type Changes struct {
	Ports        []PortChange
	HealthChecks []HealthCheckChange
	// Findings are those of each Service where they changed. They come and go
	// with what they are about; none is the state of a Service without faults.
	Findings []FindingsChange
}

// PortChange is a service port before and after. nil is a port that is not
// there: not both are.
type PortChange struct {
	Name          PortName
	Before, After *Port
}

// HealthCheckChange is the health check of a Service in one family before and
// after. nil is none: not both are.
type HealthCheckChange struct {
	Service       types.NamespacedName
	Family        Family
	Before, After *HealthCheck
}

// FindingsChange is all that is found of a Service and its slices now, sorted.
type FindingsChange struct {
	Service  types.NamespacedName
	Findings []Finding
}

// HealthCheck is what a Service of type LoadBalancer with
// externalTrafficPolicy Local tells external load balancers.
type HealthCheck struct {
	Port uint16 // TCP, on the node
	// LocalEndpoints counts the distinct addresses of ready endpoints on this
	// node, over all ports of the Service. It is zero while the only ones
	// terminate, although traffic still goes to them (KEP-1669).
	LocalEndpoints int
}

// portKey is a PortName without the Service.
type portKey struct {
	name     string
	protocol Protocol
	family   Family
}

func (k portKey) of(service types.NamespacedName) PortName {
	return PortName{service, k.name, k.protocol, k.family}
}

type toldPort struct {
	portKey
	port *Port
}

type toldCheck struct {
	family Family
	HealthCheck
}

// port returns what Changes has last told of a port, or nil.
func (t *told) port(key portKey) *Port {
	i, found := slices.BinarySearchFunc(t.ports, key, func(p toldPort, key portKey) int { return p.compare(key) })
	if !found {
		return nil
	}
	return t.ports[i].port
}

// add tells of the difference between an entry and its draft, and has the
// entry become it.
func (c *Changes) add(e *entry, d *draft) {
	if !slices.Equal(e.ports, d.ports) {
		c.addPorts(e, d.ports)
		e.ports = kept(d.ports)
	}
	if !slices.Equal(e.checks, d.checks) {
		c.addChecks(e, d.checks)
		e.checks = kept(d.checks)
	}
	if !slices.Equal(e.findings, d.findings) {
		e.findings = kept(d.findings)
		c.Findings = append(c.Findings, FindingsChange{e.name, e.findings})
	}
}

// addPorts merges two sorted lists. Equal ports are one in memory.
func (c *Changes) addPorts(e *entry, after []toldPort) {
	before := e.ports
	for len(before) > 0 || len(after) > 0 {
		var change PortChange
		switch {
		case len(after) == 0, len(before) > 0 && before[0].compare(after[0].portKey) < 0:
			change = PortChange{before[0].of(e.name), before[0].port, nil}
			before = before[1:]
		case len(before) == 0, before[0].portKey != after[0].portKey:
			change = PortChange{after[0].of(e.name), nil, after[0].port}
			after = after[1:]
		default:
			change = PortChange{after[0].of(e.name), before[0].port, after[0].port}
			before, after = before[1:], after[1:]
		}
		if change.Before != change.After {
			c.Ports = append(c.Ports, change)
		}
	}
}

func (c *Changes) addChecks(e *entry, after []toldCheck) {
	for _, family := range []Family{IPv4, IPv6} {
		change := HealthCheckChange{e.name, family, checkOf(e.checks, family), checkOf(after, family)}
		switch {
		case change.Before == nil && change.After == nil:
		case change.Before != nil && change.After != nil && *change.Before == *change.After:
		default:
			c.HealthChecks = append(c.HealthChecks, change)
		}
	}
}

// checkOf returns a copy of the check of a family, or nil.
func checkOf(checks []toldCheck, family Family) *HealthCheck {
	for _, c := range checks {
		if c.family == family {
			return new(c.HealthCheck)
		}
	}
	return nil
}
