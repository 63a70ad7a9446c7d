package service

import (
	"cmp"
	"net/netip"
	"slices"
	"strings"
	"unique"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
)

// slice is what is kept of an EndpointSlice.
type slice struct {
	name      string
	family    Family
	zoned     bool // an endpoint has a hint for zones
	ports     []slicePort
	endpoints []endpoint // sorted by address
	flawed    []flawed   // sorted by flaw
}

type slicePort struct {
	name     string
	protocol Protocol
	port     uint16
}

// endpoint is an endpoint of a slice: the same for all ports of the slice.
type endpoint struct {
	addr  netip.Addr
	zones zones
	is    conditions
	local bool // on this node
	node  node
	// forNodes tells whether the endpoint has hints for nodes, forThis whether
	// one of them is for this node.
	forNodes, forThis bool
}

// node is the one that an endpoint is on, the zero value one that is not
// known. Nodes are few and each has many endpoints.
type node struct{ handle unique.Handle[string] }

func nodeNamed(name string) node { return node{unique.Make(name)} }

func (n node) known() bool { return n != node{} }

// name returns the name for sorting.
func (n node) name() string {
	if !n.known() {
		return ""
	}
	return n.handle.Value()
}

// flawed are endpoints with the same flaw, which are left out.
type flawed struct {
	flaw  flaw
	count int
	first string // in the order of the text
}

func compareFlaws(f flawed, flaw flaw) int { return cmp.Compare(f.flaw, flaw) }

// zones are the zones that an endpoint has hints for. They are few in a
// cluster and many endpoints have the same.
type zones struct{ names unique.Handle[string] }

// zoneMark is around each name in zones: no label value has it in it.
const zoneMark = "\x00"

// readSlice returns nil for a slice that no service proxy is concerned with.
func readSlice(s *discoveryv1.EndpointSlice, thisNode string) *slice {
	_, headless := s.Labels[corev1.IsHeadlessService]
	family, ip := readAddressType(s.AddressType)
	if headless || !ip {
		return nil
	}
	read := &slice{name: s.Name, family: family, ports: readSlicePorts(s.Ports)}
	if len(s.Endpoints) > 0 {
		read.endpoints = make([]endpoint, 0, len(s.Endpoints))
	}
	for i := range s.Endpoints {
		read.add(&s.Endpoints[i], thisNode)
	}
	slices.SortFunc(read.endpoints, compareEndpoints)
	read.endpoints = slices.Compact(read.endpoints)
	return read
}

func readAddressType(t discoveryv1.AddressType) (Family, bool) {
	switch t {
	case discoveryv1.AddressTypeIPv4:
		return IPv4, true
	case discoveryv1.AddressTypeIPv6:
		return IPv6, true
	}
	return 0, false
}

// readSlicePorts passes over ports without a name or a number: those mean
// other things than a service port.
func readSlicePorts(ports []discoveryv1.EndpointPort) (read []slicePort) {
	for i := range ports {
		if port, ok := readSlicePort(&ports[i]); ok {
			read = append(read, port)
		}
	}
	return slices.Clip(read)
}

func readSlicePort(port *discoveryv1.EndpointPort) (slicePort, bool) {
	protocol, known := TCP, true // the API's default
	if port.Protocol != nil {
		protocol, known = readProtocol(*port.Protocol)
	}
	if !known || port.Name == nil || port.Port == nil || !isPort(*port.Port) {
		return slicePort{}, false
	}
	return slicePort{*port.Name, protocol, uint16(*port.Port)}, true
}

// HasPorts tells whether a dataplane forwards to any of the ports of an
// EndpointSlice: one that has a name and a number, in a protocol that a Service
// may have.
func HasPorts(ports []discoveryv1.EndpointPort) bool {
	return slices.ContainsFunc(ports, func(port discoveryv1.EndpointPort) bool {
		_, ok := readSlicePort(&port)
		return ok
	})
}

// readEndpointAddr reads the address of an endpoint. The API gives no meaning to
// any but the first.
func readEndpointAddr(e *discoveryv1.Endpoint, family Family) (netip.Addr, flaw) {
	addr, flaw := readAddr(e.Addresses[0])
	if flaw == flawNone && FamilyOf(addr) != family {
		flaw = flawFamily
	}
	return addr, flaw
}

// isEndpoint tells whether an endpoint has an address that leads there.
func isEndpoint(e *discoveryv1.Endpoint, family Family) bool {
	if len(e.Addresses) == 0 {
		return false
	}
	_, flaw := readEndpointAddr(e, family)
	return flaw == flawNone
}

// add reads an endpoint.
func (s *slice) add(e *discoveryv1.Endpoint, thisNode string) {
	if len(e.Addresses) == 0 {
		return
	}
	addr, flaw := readEndpointAddr(e, s.family)
	if flaw != flawNone {
		s.leaveOut(flaw, quotable(e.Addresses[0]))
		return
	}
	read := endpoint{addr: addr, is: readConditions(&e.Conditions)}
	if e.NodeName != nil && *e.NodeName != "" {
		read.node, read.local = nodeNamed(*e.NodeName), *e.NodeName == thisNode
	}
	if e.Hints != nil {
		read.forNodes = len(e.Hints.ForNodes) > 0
		read.forThis = thisNode != "" && slices.ContainsFunc(e.Hints.ForNodes, func(n discoveryv1.ForNode) bool { return n.Name == thisNode })
		read.zones = readZones(e.Hints.ForZones)
		s.zoned = s.zoned || read.zones.any()
	}
	s.endpoints = append(s.endpoints, read)
}

func (s *slice) leaveOut(flaw flaw, text string) {
	i, found := slices.BinarySearchFunc(s.flawed, flaw, compareFlaws)
	if !found {
		s.flawed = slices.Insert(s.flawed, i, flawed{flaw: flaw, first: text})
	}
	s.flawed[i].count++
	s.flawed[i].first = min(s.flawed[i].first, text)
}

func readZones(hints []discoveryv1.ForZone) zones {
	if len(hints) == 0 {
		return zones{}
	}
	names := make([]string, len(hints))
	for i := range hints {
		names[i] = hints[i].Name
	}
	slices.Sort(names)
	names = slices.Compact(names)
	return zones{unique.Make(zoneMark + strings.Join(names, zoneMark) + zoneMark)}
}

// any tells whether there are hints for zones.
func (z zones) any() bool { return z != zones{} }

// has tells whether a hint is for the zone. "" is no zone.
func (z zones) has(zone string) bool {
	return zone != "" && z.any() && strings.Contains(z.names.Value(), zoneMark+zone+zoneMark)
}

// text returns the zones for sorting.
func (z zones) text() string {
	if !z.any() {
		return ""
	}
	return z.names.Value()
}

// equal tells whether two slices hold the same.
func (s *slice) equal(other *slice) bool {
	return s.name == other.name && s.family == other.family && s.zoned == other.zoned &&
		slices.Equal(s.flawed, other.flawed) && slices.Equal(s.ports, other.ports) && slices.Equal(s.endpoints, other.endpoints)
}
