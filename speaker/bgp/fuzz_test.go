package bgp

import (
	"errors"
	"math/rand/v2"
	"net/netip"
	"reflect"
	"testing"

	"sigs.k8s.io/randfill"

	"github.com/fairway-lb/fairway/api/v1alpha2"
)

// FuzzConfigure makes arbitrary objects from a seed: whatever an object holds,
// Configure returns a Config that a driver can run, the same for any order of
// the BgpPeers, and a finding about each of them.
func FuzzConfigure(f *testing.F) {
	for seed := range int64(200) {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, seed int64) {
		in := randomInput(seed)
		config, findings := Configure(in)
		checkConfig(t, in, config, findings)

		rand.New(rand.NewPCG(uint64(seed), 0)).Shuffle(len(in.Peers), func(i, j int) { in.Peers[i], in.Peers[j] = in.Peers[j], in.Peers[i] })
		again, findingsAgain := Configure(in)
		if !reflect.DeepEqual(config, again) || !reflect.DeepEqual(findings, findingsAgain) {
			t.Errorf("another order of the BgpPeers makes another Config")
		}

		in.Previous = &config
		again, findingsAgain = Configure(in)
		checkConfig(t, in, again, findingsAgain)
	})
}

// randomInput is a mixture of arbitrary values and of such as mean something,
// so that the paths behind the first checks are reached too.
func randomInput(seed int64) Input {
	some := rand.New(rand.NewPCG(uint64(seed), 1))
	pick := func(texts ...string) string { return texts[some.IntN(len(texts))] }
	fill := randfill.NewWithSeed(seed).NilChance(0.6).NumElements(0, 4).MaxDepth(12).Funcs(
		func(u *v1alpha2.Uint32, c randfill.Continue) {
			*u = v1alpha2.Uint32([]uint32{0, 1, 179, 255, 65001, 65537, 131073, 4294967295, c.Uint32()}[some.IntN(9)])
		},
		func(s *v1alpha2.Seconds, c randfill.Continue) {
			*s = v1alpha2.Seconds(pick("", "", "", "", "0", "1", "3", "30", "90", "65536", "-1", "9s", c.String(3)))
		},
		func(p *v1alpha2.PeerConf, c randfill.Continue) {
			c.FillNoCustom(p)
			p.NeighborAddress = pick("", "192.168.0.5", "192.168.0.6", "::ffff:192.168.0.5", "2001:db8::5", "fe80::1%eth0", "fe80::1", "127.0.0.1", "192.168.0.2", "0.0.0.0", "::", p.NeighborAddress)
			p.NeighborInterface = pick("", "", "eth0", p.NeighborInterface)
			p.RemovePrivateAs = pick("", "", "NONE", "ALL", p.RemovePrivateAs)
			p.Vrf, p.PeerGroup = pick("", "", "", p.Vrf), pick("", "", "", p.PeerGroup)
		},
		func(x *v1alpha2.BFD, c randfill.Continue) {
			c.FillNoCustom(x)
			x.MinTx, x.MinRx = []int32{0, 10, 300, x.MinTx}[some.IntN(4)], []int32{0, 10, 300}[some.IntN(3)]
			x.DetectMultiplier = []int32{0, 3, 255, x.DetectMultiplier}[some.IntN(4)]
			x.MinimumTTL = []int32{0, 254, x.MinimumTTL}[some.IntN(3)]
		},
		func(x *v1alpha2.Transport, c randfill.Continue) {
			c.FillNoCustom(x)
			x.LocalAddress = pick("", "192.168.0.2", "2001:db8::2", "::", x.LocalAddress)
			x.RemoteAddress = pick("", "", x.RemoteAddress)
		},
		func(x *v1alpha2.Family, c randfill.Continue) {
			x.Afi = pick("", "AFI_IP", "AFI_IP6", c.String(3))
			x.Safi = pick("", "SAFI_UNICAST", c.String(3))
		},
	)
	in := Input{
		Node: node1(),
		Password: func(secret, key string) (string, error) {
			switch len(secret+key) % 5 {
			case 0:
				return "", errors.New("not found")
			case 1:
				return "", nil
			}
			return "secret", nil
		},
	}
	text := pick("", "[", samplePolicy)
	in.PolicyText = func(string) (string, error) { return text, nil }
	if some.IntN(4) == 0 {
		in.Node.Addr4 = netip.Addr{}
	}
	if some.IntN(4) == 0 {
		in.Node.Addr6 = netip.Addr{}
	}
	fill.Fill(&in.Node.Labels)
	if some.IntN(10) > 0 {
		in.Conf = &v1alpha2.BgpConf{}
		fill.Fill(&in.Conf.Spec)
		in.Conf.Name = "default"
	}
	for i := range some.IntN(8) {
		p := &v1alpha2.BgpPeer{}
		fill.Fill(&p.Spec)
		fill.Fill(&p.CreationTimestamp)
		p.Name = string(rune('a' + i))
		if some.IntN(3) > 0 {
			p.Spec.NodeSelector = nil
		}
		in.Peers = append(in.Peers, p)
	}
	return in
}

func checkConfig(t *testing.T, in Input, config Config, findings Findings) {
	t.Helper()
	if config.Router == nil && (len(config.Peers) > 0 || config.Policy != nil) {
		t.Error("sessions or a policy without a router")
	}
	if config.Router == nil && findings.Router.OK {
		t.Errorf("no router, and the finding is %+v", findings.Router)
	}
	if r := config.Router; r != nil && (r.AS == 0 || !r.ID.Is4() || r.ID.IsUnspecified() || r.ListenPort < -1 || r.ListenPort == 0 || r.ListenPort > 65535) {
		t.Errorf("router: %+v", *r)
	}
	seen := make(map[string]bool)
	for i, p := range config.Peers {
		neighbor := p.Interface
		switch {
		case (p.Interface == "") != p.Address.IsValid():
			t.Errorf("%s: address %q and interface %q", p.Name, p.Address, p.Interface)
		case p.Address.IsValid():
			neighbor = p.Address.String()
			if p.Address.IsUnspecified() || p.Address.IsMulticast() || p.Address.Is4In6() || (p.Address.Is6() && p.Address.IsLinkLocalUnicast()) != (p.Address.Zone() != "") {
				t.Errorf("%s: no neighbor: %s", p.Name, p.Address)
			}
		}
		if seen[neighbor] {
			t.Errorf("%s: a second session with %s", p.Name, neighbor)
		}
		seen[neighbor] = true
		if i > 0 && config.Peers[i-1].Name >= p.Name {
			t.Errorf("%s is not in its place", p.Name)
		}
		if p.Port == 0 || p.LocalAS == 0 || p.HoldTime < minHoldTime || p.KeepaliveInterval <= 0 || p.KeepaliveInterval >= p.HoldTime || p.ConnectRetry <= 0 {
			t.Errorf("%s: %+v", p.Name, p)
		}
		if p.MultihopTTL > 0 && p.MinTTL > 0 || len(p.Password) > maxPassword || len(p.Families) == 0 || len(p.Families) > 2 {
			t.Errorf("%s: %+v", p.Name, p)
		}
		if p.AS == p.LocalAS && (p.RemovePrivateAS != "" || p.ReplacePeerAS) {
			t.Errorf("%s: GoBGP refuses it: %+v", p.Name, p)
		}
		if _, ok := findings.Peers[p.Name]; !ok {
			t.Errorf("%s: no finding", p.Name)
		}
	}
	for name, f := range findings.Peers {
		if f.Reason == "" || f.Message == "" {
			t.Errorf("%s: finding %+v", name, f)
		}
	}
	if len(findings.Peers) > len(in.Peers) {
		t.Error("findings about nothing")
	}
}
