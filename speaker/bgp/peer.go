package bgp

import (
	"net/netip"
	"strings"

	"github.com/fairway-lb/fairway/api/v1alpha2"
)

// draft is one BgpPeer on its way to being a Peer.
type draft struct {
	in     *Input
	conf   *v1alpha2.BgpConf // nil where router is
	router *Router
	obj    *v1alpha2.BgpPeer
	about  *report
	taken  map[string]string // by neighbor: the BgpPeer that has it

	peer Peer
}

// make fills in d.peer, or returns why the node is to have no such session.
func (d *draft) make() *problem {
	if _, ok := d.obj.Labels[v1alpha2.LabelCNI]; ok {
		return problemf(ReasonAnnouncedByCNI, "the label %s gives it to the CNI: remove the label to have Fairway peer", v1alpha2.LabelCNI)
	}
	if d.router == nil {
		return problemf(ReasonRouterMissing, "the node has no BGP router: see the condition Ready of BgpConf %s", v1alpha2.BgpConfName)
	}
	d.peer.Name = d.obj.Name
	for _, step := range []func() *problem{
		d.neighbor, d.unsupported, d.paths, d.transport, d.listener, d.distance, d.timers,
		d.gracefulRestart, d.families, d.bfd, d.password, d.claim,
	} {
		if refused := step(); refused != nil {
			return refused
		}
	}
	return nil
}

// neighbor reads who the neighbor is.
func (d *draft) neighbor() *problem {
	conf := d.obj.Spec.Conf
	if conf == nil || (conf.NeighborAddress == "" && conf.NeighborInterface == "") {
		return problemf(ReasonNeighborInvalid, "spec.conf names no neighbor: set neighborAddress to the router's IP address, or neighborInterface to the interface that leads to it")
	}
	if conf.NeighborInterface != "" && !isInterfaceName(conf.NeighborInterface) {
		return problemf(ReasonNeighborInvalid, "spec.conf.neighborInterface %q is not the name of an interface: write one such as eth0", conf.NeighborInterface)
	}
	if conf.NeighborAddress == "" {
		d.peer.Interface = conf.NeighborInterface
		return nil
	}
	addr, err := netip.ParseAddr(conf.NeighborAddress)
	if err == nil {
		addr = addr.Unmap()
	}
	linkLocal := addr.Is6() && addr.IsLinkLocalUnicast()
	switch {
	case err != nil, addr.IsUnspecified(), addr.IsMulticast(), addr == netip.AddrFrom4([4]byte{255, 255, 255, 255}):
		return problemf(ReasonNeighborInvalid, "spec.conf.neighborAddress %q is not the IP address of a router: write one such as 192.168.0.5, without prefix length or port", conf.NeighborAddress)
	case addr.Zone() != "" && (!linkLocal || !isInterfaceName(addr.Zone())):
		return problemf(ReasonNeighborInvalid, "spec.conf.neighborAddress %q: only a link-local address is followed by %% and the name of an interface", conf.NeighborAddress)
	case linkLocal && addr.Zone() == "" && conf.NeighborInterface != "":
		addr = addr.WithZone(conf.NeighborInterface)
	case linkLocal && addr.Zone() == "":
		return problemf(ReasonNeighborInvalid, "spec.conf.neighborAddress %s is link-local: add %% and the interface that leads to it, as in %s%%eth0", addr, addr)
	case conf.NeighborInterface != "" && conf.NeighborInterface != addr.Zone():
		d.about.remarkf("spec.conf.neighborInterface has no effect beside neighborAddress")
	}
	d.peer.Address = addr
	return nil
}

// isInterfaceName says whether the kernel would take the name (IFNAMSIZ).
func isInterfaceName(name string) bool {
	return name != "" && len(name) < 16 && name != "." && name != ".." && !strings.ContainsAny(name, "/:% \t\n\v\f\r\x00")
}

// unsupported refuses what would make another session than the one asked for.
func (d *draft) unsupported() *problem {
	conf := d.obj.Spec.Conf
	switch {
	case conf.Vrf != "":
		return problemf(ReasonUnsupported, "spec.conf.vrf: VRFs are not supported, remove it")
	case conf.PeerGroup != "":
		return problemf(ReasonUnsupported, "spec.conf.peerGroup: there are no peer groups, write the settings into the BgpPeer and remove it")
	}
	if conf.RouteFlapDamping {
		d.about.remarkf("spec.conf.routeFlapDamping has no effect, no routes are accepted from neighbors")
	}
	if conf.SendCommunity != 0 {
		d.about.remarkf("spec.conf.sendCommunity has no effect, all communities are sent")
	}
	return nil
}

// paths is what becomes of AS numbers.
func (d *draft) paths() *problem {
	conf := d.obj.Spec.Conf
	p := &d.peer
	p.AS, p.LocalAS = uint32(conf.PeerAS), uint32(conf.LocalAS)
	if p.LocalAS == 0 {
		p.LocalAS = d.router.AS
	}
	p.Description = conf.Description
	p.AdminDown = conf.AdminDown
	p.RouteFlapDamping = conf.RouteFlapDamping
	p.SendCommunity = uint32(conf.SendCommunity)
	p.AllowOwnAS = min(uint32(conf.AllowOwnAS), 255) // GoBGP counts in 8 bits
	p.ReplacePeerAS = conf.ReplacePeerAS
	switch conf.RemovePrivateAs {
	case "", "NONE":
	case "ALL", "REPLACE":
		p.RemovePrivateAS = conf.RemovePrivateAs
	default:
		return problemf(ReasonUnsupported, "spec.conf.removePrivateAs %q: write NONE, ALL or REPLACE", conf.RemovePrivateAs)
	}
	if p.AS != p.LocalAS {
		return nil
	}
	switch {
	case p.RemovePrivateAS != "":
		return problemf(ReasonInternalPeer, "spec.conf.removePrivateAs is for a neighbor in another AS, and this one is in AS %d too: remove it", p.AS)
	case p.ReplacePeerAS:
		return problemf(ReasonInternalPeer, "spec.conf.replacePeerAs is for a neighbor in another AS, and this one is in AS %d too: remove it", p.AS)
	}
	return nil
}

// claim makes the neighbor the BgpPeer's, unless an older one has it.
func (d *draft) claim() *problem {
	field, neighbor := "neighborAddress", d.peer.Address.String()
	if d.peer.Interface != "" {
		field, neighbor = "neighborInterface", d.peer.Interface
	}
	key := field + " " + neighbor
	if other, ok := d.taken[key]; ok {
		return problemf(ReasonNeighborTaken, "spec.conf.%s: BgpPeer %s, which is older, has the session with %s on this node: change it, or the nodeSelector of one of them", field, other, neighbor)
	}
	d.taken[key] = d.obj.Name
	return nil
}
