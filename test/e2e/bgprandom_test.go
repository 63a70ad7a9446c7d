package e2e

import (
	"fmt"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/randfill"

	"github.com/fairway-lb/fairway/api/v1alpha2"
)

// TestBGPRandomObjects fills BgpPeers and BgpConfs at random. Whatever the API
// server accepts, the speaker lives, and the sessions that others ask for stay
// or, when the router itself changes, come back.
func TestBGPRandomObjects(t *testing.T) {
	const seed, peers, confs = 5, 400, 40
	c := newUnpeered(t, 1, frrRouter())
	r := c.Router("r1")
	c.serveWeb()
	c.apply(bgpConf("listenPort: 17900") + bgpPeer("r1", r.Addr4().String(), routersAS))
	c.hasRoute(r, web4, "n1")
	w, connections, speaker := c.watch(r, web4), c.connections(r), c.speakers["n1"]
	filler := randfill.NewWithSeed(seed).NilChance(0.4).NumElements(0, 3).Funcs(plausible()...)
	accepted, acceptedConfs := 0, 0
	var refused error // the last one
	for i := range peers {
		peer := &v1alpha2.BgpPeer{}
		filler.Fill(&peer.Spec)
		peer.Name = fmt.Sprintf("random-%d", i%40)
		if refused = c.put(peer); refused == nil {
			accepted++
		}
	}
	if accepted < peers/10 {
		t.Errorf("the API server took %d of %d BgpPeers, so there was little to try: %v", accepted, peers, refused)
	}
	c.eventually("the speaker has seen them all", func() string {
		for _, p := range c.bgpPeers() {
			if p.Spec.NodeSelector == nil && len(p.Status.NodesPeerStatus["n1"].Conditions) == 0 {
				return p.Name + " has no conditions"
			}
		}
		return ""
	})
	c.unchanged(w, web4)
	c.sameConnections(r, connections)

	for range confs {
		conf := &v1alpha2.BgpConf{}
		filler.Fill(&conf.Spec)
		conf.Name = v1alpha2.BgpConfName
		if refused = c.put(conf); refused == nil {
			acceptedConfs++
		}
	}
	t.Logf("the API server took %d of %d BgpPeers and %d of %d BgpConfs", accepted, peers, acceptedConfs, confs)
	if acceptedConfs < confs/10 {
		t.Errorf("the API server took %d of %d BgpConfs, so there was little to try: %v", acceptedConfs, confs, refused)
	}
	c.kubectl("delete", "bgpconf", "default")
	c.apply(bgpConf("listenPort: 17900"))
	c.established(r, "n1")
	c.hasRoute(r, web4, "n1")
	if !speaker.Running() {
		t.Errorf("the speaker ended: %v", speaker.Err())
	}
}

// put creates an object or replaces its spec, as far as the API server takes it.
func (c *cluster) put(object client.Object) error {
	c.t.Helper()
	if current, ok := object.DeepCopyObject().(client.Object); ok && c.api.Get(c.t.Context(), client.ObjectKeyFromObject(object), current) == nil {
		object.SetResourceVersion(current.GetResourceVersion())
		return c.api.Update(c.t.Context(), object)
	}
	return c.api.Create(c.t.Context(), object)
}

// plausible are functions that fill in what stands a chance with the API server.
// Neighbors are in networks that are not there.
func plausible() []any {
	pick := func(r randfill.Continue, texts ...string) string { return texts[r.Intn(len(texts))] }
	// number is mostly a small one: most fields have an upper end.
	number := func(r randfill.Continue) int64 {
		if r.Intn(20) > 0 {
			return []int64{0, 0, 0, 1, 2, 3, 100, 255}[r.Intn(8)]
		}
		return []int64{-1, 256, 4095, 4096, 65535, 65537, 131073, 1<<31 - 1}[r.Intn(8)]
	}
	return []any{
		func(n *v1alpha2.Uint32, r randfill.Continue) { *n = v1alpha2.Uint32(max(0, number(r))) },
		func(s *v1alpha2.Seconds, r randfill.Continue) {
			*s = v1alpha2.Seconds(pick(r, "", "", "0", "1", "3", "30", "90", "65535"))
		},
		func(n *int32, r randfill.Continue) { *n = int32(number(r)) },
		func(s *string, r randfill.Continue) { *s = pick(r, "", "", "", "", "", "a", "x-1", "default", "a b") },
		func(x *v1alpha2.BFD, r randfill.Continue) {
			r.FillNoCustom(x)
			x.MinTx, x.MinRx = []int32{0, 10, 300, 60000}[r.Intn(4)], []int32{0, 10, 300, 60000}[r.Intn(4)]
			if !x.Multihop {
				x.MinimumTTL = 0
			}
		},
		func(p *v1alpha2.PeerConf, r randfill.Continue) {
			r.FillNoCustom(p)
			p.NeighborAddress = pick(r, "198.51.100.7", "198.51.100.8", "2001:db8:5::1", "fe80::5%eth33", "127.0.0.1", "192.168.93.11")
			p.NeighborInterface = ""
			if r.Intn(4) == 0 {
				p.NeighborAddress, p.NeighborInterface = "", pick(r, "eth33", "lo", "nothere0")
			}
			p.RemovePrivateAs = pick(r, "", "NONE", "ALL", "REPLACE")
			p.Vrf, p.PeerGroup = pick(r, "", "", "", "red"), pick(r, "", "", "", "spine")
		},
		func(t *v1alpha2.Transport, r randfill.Continue) {
			r.FillNoCustom(t)
			t.LocalAddress = pick(r, "", "", "192.168.93.11", "198.51.100.99", "fd93::11")
			t.RemoteAddress, t.TCPMSS = "", []v1alpha2.Uint32{0, 0, 88, 1400}[r.Intn(4)]
		},
		func(f *v1alpha2.Family, r randfill.Continue) {
			f.Afi, f.Safi = pick(r, "", "AFI_IP", "AFI_IP6", "AFI_L2VPN"), pick(r, "", "SAFI_UNICAST", "SAFI_EVPN")
		},
		func(s *metav1.LabelSelector, r randfill.Continue) {
			s.MatchLabels = map[string]string{"kubernetes.io/hostname": pick(r, "n1", "n2", "")}
		},
		func(s *v1alpha2.BgpConfSpec, r randfill.Continue) {
			r.FillNoCustom(s)
			s.RouterID = pick(r, "", "", "192.0.2.1", "255.255.255.255", "0.0.0.1")
			s.ListenAddresses = [][]string{nil, nil, {"192.168.93.11"}, {"127.0.0.1", "127.0.0.1"}, {"::"}, {"203.0.113.77"}}[r.Intn(6)]
			s.NextHops = pick(r, "", "self", "nodes")
			s.Policy = pick(r, "", "", "no-such-policy")
		},
	}
}
