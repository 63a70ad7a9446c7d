package bgp

import (
	"net/netip"
	"slices"

	"github.com/fairway-lb/fairway/api/v1alpha2"
)

// defaultAddPaths is how many paths per destination are sent at most where a
// BgpPeer lists no families.
const defaultAddPaths = 10

// families decides which address families the session carries, and what next
// hop their routes have. One that cannot be served is left out; a session
// without any would announce nothing and is not made.
func (d *draft) families() *problem {
	wanted, problems := d.wantedFamilies()
	for _, f := range wanted {
		hop, p := d.nextHop(f.IPv6)
		if p != nil {
			problems = append(problems, p)
			continue
		}
		if f.IPv6 {
			d.peer.NextHop6 = hop
		} else {
			d.peer.NextHop4 = hop
		}
		f.GracefulRestart = d.peer.GracefulRestart.Enabled
		d.peer.Families = append(d.peer.Families, f)
	}
	if len(d.peer.Families) == 0 {
		return problems[0]
	}
	d.about.problems = append(d.about.problems, problems...)
	return nil
}

// wantedFamilies returns the families that the BgpPeer lists and the router
// has, IPv4 first and each once, and what is wrong with the others.
func (d *draft) wantedFamilies() (wanted []Family, problems []*problem) {
	add := func(f Family) {
		switch number, name := f.number(); {
		case len(d.router.Families) > 0 && !slices.Contains(d.router.Families, number):
			problems = append(problems, problemf(ReasonFamilyUnsupported, "BgpConf's spec.families leaves %s unicast out: add %d to it, or leave all families out to have both", name, number))
		case slices.ContainsFunc(wanted, func(w Family) bool { return w.IPv6 == f.IPv6 }):
			d.about.remarkf("spec.afiSafis has %s unicast more than once, the first entry counts", name)
		case f.IPv6:
			wanted = append(wanted, f)
		default:
			wanted = slices.Insert(wanted, 0, f)
		}
	}
	for _, entry := range d.obj.Spec.AfiSafis {
		var afi, safi string
		if entry.Config != nil && entry.Config.Family != nil {
			afi, safi = entry.Config.Family.Afi, entry.Config.Family.Safi
		}
		paths := d.addPaths(entry.AddPaths)
		switch {
		case safi != "" && safi != "SAFI_UNICAST", afi != "" && afi != "AFI_IP" && afi != "AFI_IP6":
			problems = append(problems, problemf(ReasonFamilyUnsupported, "spec.afiSafis: %s %s is not served, only AFI_IP and AFI_IP6 with SAFI_UNICAST are: remove it", afi, safi))
		case afi == "":
			for _, ipv6 := range d.ownFamilies() {
				paths.IPv6 = ipv6
				add(paths)
			}
		default:
			paths.IPv6 = afi == "AFI_IP6"
			add(paths)
		}
	}
	if len(d.obj.Spec.AfiSafis) == 0 {
		for _, ipv6 := range d.ownFamilies() {
			add(Family{IPv6: ipv6, AddPathsSendMax: defaultAddPaths})
		}
	}
	return wanted, problems
}

// number returns GoBGP's for the family, and its name.
func (f Family) number() (uint32, string) {
	if f.IPv6 {
		return familyIPv6Unicast, "IPv6"
	}
	return familyIPv4Unicast, "IPv4"
}

// ownFamilies are those meant where none is named: the neighbor address's, or
// both behind an interface.
func (d *draft) ownFamilies() (ipv6 []bool) {
	if d.peer.Interface != "" {
		return []bool{false, true}
	}
	return []bool{d.peer.Address.Is6()}
}

func (d *draft) addPaths(a *v1alpha2.AddPaths) Family {
	if a == nil || a.Config == nil {
		return Family{}
	}
	most := a.Config.SendMax
	if most > 255 {
		d.about.remarkf("spec.afiSafis: addPaths.config.sendMax %d counts as 255, the most there is", most)
		most = 255
	}
	return Family{AddPathsReceive: a.Config.Receive, AddPathsSendMax: uint8(most)}
}

// nextHop returns what a route of a family has as next hop, or the zero value
// where the session's own address serves.
func (d *draft) nextHop(ipv6 bool) (netip.Addr, *problem) {
	loopback := d.peer.Address.IsLoopback()
	// Before a link-local next hop, GoBGP writes the global one as ::, which
	// routers refuse.
	linkLocal := d.peer.Interface != "" || d.peer.Address.Is6() && d.peer.Address.IsLinkLocalUnicast()
	if ipv6 == d.overIPv6() && !loopback && !linkLocal {
		return netip.Addr{}, nil
	}
	own, family := d.in.Node.Addr4, "IPv4"
	if ipv6 {
		own, family = d.in.Node.Addr6, "IPv6"
	}
	switch {
	case own.IsValid():
		return own, nil
	case !ipv6 && !loopback:
		return netip.Addr{}, nil // an IPv6 next hop (RFC 8950)
	}
	return netip.Addr{}, problemf(ReasonNextHopMissing, "Node %s has no %s InternalIP to be the next hop of %s routes on this session: give it one, or leave that family out of spec.afiSafis", d.in.Node.Name, family, family)
}
