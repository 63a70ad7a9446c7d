package bgp

import (
	"hash/fnv"
	"net/netip"
	"slices"

	"github.com/fairway-lb/fairway/api/v1alpha2"
)

// DefaultListenPort is BGP's TCP port (RFC 4271, 8.2.1).
const DefaultListenPort = 179

// GoBGP's numbers, afi<<16|safi, of the families that are served.
const (
	familyIPv4Unicast = 1<<16 | 1
	familyIPv6Unicast = 2<<16 | 1
)

// routerFor decides what the node's router is to be. It returns nil where the
// node is to have none, and about says why.
func routerFor(conf *v1alpha2.BgpConf, node Node, about *report) *Router {
	if conf == nil {
		about.add(problemf(ReasonBgpConfMissing, "there is none: create it with spec.as to have the node's addresses announced by BGP"))
		return nil
	}
	if _, ok := conf.Labels[v1alpha2.LabelCNI]; ok {
		about.add(problemf(ReasonAnnouncedByCNI, "the label %s gives it to the CNI: remove the label to have Fairway announce", v1alpha2.LabelCNI))
		return nil
	}
	spec := &conf.Spec
	asn, configured := uint32(spec.AS), spec.RouterID
	if rack, ok := node.Labels[v1alpha2.LabelRack]; ok && len(spec.AsPerRack) > 0 {
		if of := spec.AsPerRack[rack]; of > 0 {
			asn = uint32(of)
		}
		configured = "" // racks have routers of their own, so one identifier cannot be meant for all
	}
	if asn == 0 {
		about.add(problemf(ReasonASMissing, "spec.as is missing or 0: set it to the nodes' AS number"))
		return nil
	}
	id := routerID(configured, node, about)
	if !id.IsValid() {
		return nil
	}
	r := &Router{AS: asn, ID: id, UseMultiplePaths: spec.UseMultiplePaths}
	r.ListenPort, r.ListenAddresses = listenOn(spec, about)
	r.Families = routerFamilies(spec.Families, about)
	return r
}

// routerID is what is configured, else the node's IPv4 address, else a number
// that follows from the node's name: RFC 6286 asks no more of it than to be
// unique in its AS and not 0.
func routerID(configured string, node Node, about *report) netip.Addr {
	id, err := netip.ParseAddr(configured)
	good := err == nil && id.Is4() && !id.IsUnspecified()
	switch {
	case good:
		return id
	case node.Addr4.IsValid():
		id = node.Addr4
	case node.Addr6.IsValid():
		id = derivedID(node.Name)
	default:
		about.add(problemf(ReasonNodeAddressMissing, "Node %s has no InternalIP to be its router ID: give it one, or set spec.routerId", node.Name))
		return netip.Addr{}
	}
	if configured != "" {
		about.add(problemf(ReasonRouterIDInvalid, "spec.routerId %q is not an IPv4 address other than 0.0.0.0: correct it or leave it out; %s is used", configured, id))
	} else if id != node.Addr4 {
		about.remarkf("Node %s has no IPv4 InternalIP, so its router ID %s is a hash of its name: set spec.routerId to choose another", node.Name, id)
	}
	return id
}

// derivedID lies in 1.0.0.0 to 127.255.255.255, because some routers refuse
// identifiers that would be multicast addresses.
func derivedID(name string) netip.Addr {
	h := fnv.New32a()
	h.Write([]byte(name)) // a hash.Hash never returns an error
	n := h.Sum32() &^ (1 << 31)
	if n < 1<<24 {
		n |= 1 << 24
	}
	return netip.AddrFrom4([4]byte{byte(n >> 24), byte(n >> 16), byte(n >> 8), byte(n)})
}

// listenOn returns the port and the addresses that sessions are accepted on. A
// list without any good address means none at all: no entry that cannot be
// read may open the port to everybody.
func listenOn(spec *v1alpha2.BgpConfSpec, about *report) (int32, []netip.Addr) {
	port := spec.ListenPort
	switch {
	case port == 0:
		port = DefaultListenPort
	case port < -1 || port > 65535:
		about.add(problemf(ReasonListenInvalid, "spec.listenPort %d is no TCP port: set one from 1 to 65535, or -1 to accept no sessions; none are accepted", port))
		port = -1
	}
	var addrs []netip.Addr
	for _, text := range spec.ListenAddresses {
		addr, err := netip.ParseAddr(text)
		if err != nil || addr.IsMulticast() {
			about.add(problemf(ReasonListenInvalid, "spec.listenAddresses: %q is not an IP address to listen on: write one such as 192.168.0.2; it is left out", text))
			continue
		}
		addrs = append(addrs, addr.Unmap())
	}
	slices.SortFunc(addrs, netip.Addr.Compare)
	addrs = slices.Compact(addrs) // to listen twice would fail
	if len(spec.ListenAddresses) > 0 && len(addrs) == 0 {
		port = -1
	}
	return port, addrs
}

// routerFamilies returns those among the numbers that are served, sorted; none means
// all.
func routerFamilies(numbers []v1alpha2.Uint32, about *report) []uint32 {
	var served []uint32
	for _, n := range numbers {
		if n != familyIPv4Unicast && n != familyIPv6Unicast {
			about.remarkf("spec.families: %d is not served, only %d (IPv4 unicast) and %d (IPv6 unicast) are", n, familyIPv4Unicast, familyIPv6Unicast)
			continue
		}
		served = append(served, uint32(n))
	}
	slices.Sort(served)
	return slices.Compact(served)
}
