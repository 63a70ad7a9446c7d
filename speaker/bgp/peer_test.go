package bgp

import (
	"errors"
	"fmt"
	"net/netip"
	"reflect"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/fairway-lb/fairway/api/v1alpha2"
	"github.com/fairway-lb/fairway/speaker/bfd"
)

// bgpPeer is the least BgpPeer, with the neighbor of the walkthrough.
func bgpPeer(name string, change func(*v1alpha2.BgpPeerSpec)) *v1alpha2.BgpPeer {
	p := &v1alpha2.BgpPeer{ObjectMeta: metav1.ObjectMeta{Name: name}}
	p.Spec.Conf = &v1alpha2.PeerConf{NeighborAddress: "192.168.0.5", PeerAS: 50001}
	change(&p.Spec)
	return p
}

// defaultPeer is what the least BgpPeer comes to.
func defaultPeer(change func(*Peer)) *Peer {
	p := &Peer{
		Name: "p", Address: netip.MustParseAddr("192.168.0.5"), AS: 50001, LocalAS: 50000, Port: 179,
		ConnectRetry: 5 * time.Second, HoldTime: 90 * time.Second, KeepaliveInterval: 30 * time.Second,
		GracefulRestart: GracefulRestart{Enabled: true, RestartTime: 120 * time.Second, DeferralTime: time.Second},
		Families:        []Family{{AddPathsSendMax: 10, GracefulRestart: true}},
	}
	change(p)
	return p
}

func TestPeer(t *testing.T) {
	type spec = v1alpha2.BgpPeerSpec
	same := func(*Peer) {}
	neighbor := func(text string) func(*spec) { return func(s *spec) { s.Conf.NeighborAddress = text } }
	behind := func(text string) func(*spec) {
		return func(s *spec) { s.Conf.NeighborAddress, s.Conf.NeighborInterface = "", text }
	}
	timers := func(c v1alpha2.TimersConfig) func(*spec) {
		return func(s *spec) { s.Timers = &v1alpha2.Timers{Config: &c} }
	}
	transport := func(tr v1alpha2.Transport) func(*spec) { return func(s *spec) { s.Transport = &tr } }
	peerConf := func(change func(*v1alpha2.PeerConf)) func(*spec) { return func(s *spec) { change(s.Conf) } }
	addr := netip.MustParseAddr
	over6 := func(address string) func(*Peer) {
		return func(p *Peer) {
			p.Address = addr(address)
			p.Families[0].IPv6 = true
		}
	}
	overLinkLocal := func(address string) func(*Peer) {
		return func(p *Peer) {
			over6(address)(p)
			p.NextHop6 = addr("2001:db8::2")
		}
	}
	for _, test := range []struct {
		name   string
		change func(*spec)
		want   *Peer // nil: no session
		reason Reason
		says   []string
	}{
		{"the least", func(*spec) {}, defaultPeer(same), ReasonAccepted, nil},
		{"no conf", func(s *spec) { s.Conf = nil }, nil, ReasonNeighborInvalid, []string{"BgpPeer p", "neighborAddress"}},
		{"no neighbor", neighbor(""), nil, ReasonNeighborInvalid, nil},
		{"with prefix length", neighbor("192.168.0.5/24"), nil, ReasonNeighborInvalid, []string{`"192.168.0.5/24"`, "without prefix length"}},
		{"unspecified", neighbor("0.0.0.0"), nil, ReasonNeighborInvalid, nil},
		{"multicast", neighbor("224.0.0.5"), nil, ReasonNeighborInvalid, nil},
		{"broadcast", neighbor("255.255.255.255"), nil, ReasonNeighborInvalid, nil},
		{"mapped", neighbor("::ffff:192.168.0.5"), defaultPeer(same), ReasonAccepted, nil},
		{"IPv6", neighbor("2001:db8::5"), defaultPeer(over6("2001:db8::5")), ReasonAccepted, nil},
		{"IPv6 with zone", neighbor("2001:db8::5%eth0"), nil, ReasonNeighborInvalid, []string{"only a link-local address"}},
		{"link-local", neighbor("fe80::5%eth0"), defaultPeer(overLinkLocal("fe80::5%eth0")), ReasonAccepted, nil},
		{"link-local without zone", neighbor("fe80::5"), nil, ReasonNeighborInvalid, []string{"fe80::5%eth0"}},
		{"link-local and interface", func(s *spec) { s.Conf.NeighborAddress, s.Conf.NeighborInterface = "fe80::5", "eth1" }, defaultPeer(overLinkLocal("fe80::5%eth1")), ReasonAccepted, nil},
		{"address and interface", func(s *spec) { s.Conf.NeighborInterface = "eth1" }, defaultPeer(same), ReasonSettingsWithoutEffect, []string{"neighborInterface"}},
		{"unnumbered", behind("eth1"), defaultPeer(func(p *Peer) {
			p.Address, p.Interface, p.NextHop4, p.NextHop6 = netip.Addr{}, "eth1", addr("192.168.0.2"), addr("2001:db8::2")
			p.Families = []Family{{AddPathsSendMax: 10, GracefulRestart: true}, {IPv6: true, AddPathsSendMax: 10, GracefulRestart: true}}
		}), ReasonAccepted, nil},
		{"no interface", behind("eth 1"), nil, ReasonNeighborInvalid, []string{"neighborInterface"}},
		{"long interface", behind("a-very-long-name"), nil, ReasonNeighborInvalid, nil},

		{"any AS", peerConf(func(c *v1alpha2.PeerConf) { c.PeerAS = 0 }), defaultPeer(func(p *Peer) { p.AS = 0 }), ReasonAccepted, nil},
		{"own AS for it", peerConf(func(c *v1alpha2.PeerConf) { c.LocalAS = 4200000000 }), defaultPeer(func(p *Peer) { p.LocalAS = 4200000000 }), ReasonAccepted, nil},
		{"paths", peerConf(func(c *v1alpha2.PeerConf) {
			c.RemovePrivateAs, c.ReplacePeerAS, c.AllowOwnAS, c.Description, c.AdminDown, c.PeerType = "REPLACE", true, 300, "leaf", true, 1
		}), defaultPeer(func(p *Peer) {
			p.RemovePrivateAS, p.ReplacePeerAS, p.AllowOwnAS, p.Description, p.AdminDown = "REPLACE", true, 255, "leaf", true
		}), ReasonAccepted, nil},
		{"keeps private", peerConf(func(c *v1alpha2.PeerConf) { c.RemovePrivateAs = "NONE" }), defaultPeer(same), ReasonAccepted, nil},
		{"wrong enum", peerConf(func(c *v1alpha2.PeerConf) { c.RemovePrivateAs = "all" }), nil, ReasonUnsupported, []string{"NONE, ALL or REPLACE"}},
		{"iBGP", peerConf(func(c *v1alpha2.PeerConf) { c.PeerAS = 50000 }), defaultPeer(func(p *Peer) { p.AS = 50000 }), ReasonAccepted, nil},
		{"iBGP removing", peerConf(func(c *v1alpha2.PeerConf) { c.PeerAS, c.RemovePrivateAs = 50000, "ALL" }), nil, ReasonInternalPeer, []string{"removePrivateAs", "AS 50000"}},
		{"iBGP by localAs replacing", peerConf(func(c *v1alpha2.PeerConf) { c.LocalAS, c.ReplacePeerAS = 50001, true }), nil, ReasonInternalPeer, []string{"replacePeerAs"}},
		{"VRF", peerConf(func(c *v1alpha2.PeerConf) { c.Vrf = "red" }), nil, ReasonUnsupported, []string{"spec.conf.vrf"}},
		{"peer group", peerConf(func(c *v1alpha2.PeerConf) { c.PeerGroup = "leafs" }), nil, ReasonUnsupported, []string{"spec.conf.peerGroup"}},
		{"without effect", func(s *spec) {
			s.Conf.RouteFlapDamping, s.Conf.SendCommunity = true, 2
			s.Transport = &v1alpha2.Transport{MtuDiscovery: true}
			s.Timers = &v1alpha2.Timers{Config: &v1alpha2.TimersConfig{MinimumAdvertisementInterval: "5"}}
		}, defaultPeer(func(p *Peer) {
			p.RouteFlapDamping, p.SendCommunity, p.MTUDiscovery, p.MinimumAdvertisementInterval = true, 2, true, 5*time.Second
		}), ReasonSettingsWithoutEffect, []string{"routeFlapDamping", "sendCommunity", "mtuDiscovery", "minimumAdvertisementInterval"}},

		{"timers", timers(v1alpha2.TimersConfig{ConnectRetry: "30", HoldTime: "9"}), defaultPeer(func(p *Peer) {
			p.ConnectRetry, p.HoldTime, p.KeepaliveInterval = 30*time.Second, 9*time.Second, 3*time.Second
		}), ReasonAccepted, nil},
		{"timers of 0", timers(v1alpha2.TimersConfig{ConnectRetry: "0", HoldTime: "0", KeepaliveInterval: "0"}), defaultPeer(same), ReasonAccepted, nil},
		{"least hold time", timers(v1alpha2.TimersConfig{HoldTime: "3"}), defaultPeer(func(p *Peer) { p.HoldTime, p.KeepaliveInterval = 3*time.Second, time.Second }), ReasonAccepted, nil},
		{"unit", timers(v1alpha2.TimersConfig{HoldTime: "30s"}), nil, ReasonTimerInvalid, []string{`spec.timers.config.holdTime "30s"`, "without a unit"}},
		{"negative", timers(v1alpha2.TimersConfig{ConnectRetry: "-1"}), nil, ReasonTimerInvalid, nil},
		{"long", timers(v1alpha2.TimersConfig{KeepaliveInterval: "65536"}), nil, ReasonTimerInvalid, nil},
		{"short hold time", timers(v1alpha2.TimersConfig{HoldTime: "2"}), nil, ReasonTimerInvalid, []string{"at least 3 seconds"}},
		{"rare keepalives", timers(v1alpha2.TimersConfig{HoldTime: "30", KeepaliveInterval: "30"}), nil, ReasonTimerInvalid, []string{"keepaliveInterval", "a third"}},
		{"no timers", func(s *spec) { s.Timers = &v1alpha2.Timers{} }, defaultPeer(same), ReasonAccepted, nil},

		{"transport", transport(v1alpha2.Transport{PassiveMode: true, LocalAddress: "192.168.0.3", RemotePort: 1790, TCPMSS: 1400, RemoteAddress: "192.168.0.5"}), defaultPeer(func(p *Peer) {
			p.Passive, p.LocalAddress, p.Port, p.TCPMSS = true, addr("192.168.0.3"), 1790, 1400
		}), ReasonAccepted, nil},
		{"no port", transport(v1alpha2.Transport{RemotePort: 65536}), nil, ReasonTransportInvalid, []string{"remotePort 65536"}},
		{"no segment size", transport(v1alpha2.Transport{TCPMSS: 65536}), nil, ReasonTransportInvalid, []string{"tcpMss"}},
		{"no local address", transport(v1alpha2.Transport{LocalAddress: "eth0"}), nil, ReasonTransportInvalid, []string{`localAddress "eth0"`}},
		{"local address of the other family", transport(v1alpha2.Transport{LocalAddress: "2001:db8::2"}), nil, ReasonTransportInvalid, []string{"address family"}},
		{"any local address", transport(v1alpha2.Transport{LocalAddress: "0.0.0.0"}), defaultPeer(same), ReasonAccepted, nil},
		{"elsewhere", transport(v1alpha2.Transport{RemoteAddress: "192.168.0.6"}), nil, ReasonUnsupported, []string{"remoteAddress", "neighborAddress"}},

		{"multihop", func(s *spec) { s.EbgpMultihop = &v1alpha2.EbgpMultihop{Enabled: true} }, defaultPeer(func(p *Peer) { p.MultihopTTL = 255 }), ReasonAccepted, nil},
		{"two hops", func(s *spec) { s.EbgpMultihop = &v1alpha2.EbgpMultihop{Enabled: true, MultihopTTL: 2} }, defaultPeer(func(p *Peer) { p.MultihopTTL = 2 }), ReasonAccepted, nil},
		{"multihop off", func(s *spec) { s.EbgpMultihop = &v1alpha2.EbgpMultihop{MultihopTTL: 2} }, defaultPeer(same), ReasonAccepted, nil},
		{"no TTL", func(s *spec) { s.EbgpMultihop = &v1alpha2.EbgpMultihop{Enabled: true, MultihopTTL: 256} }, nil, ReasonTTLInvalid, []string{"multihopTtl 256"}},
		{"GTSM", func(s *spec) { s.TTLSecurity = &v1alpha2.TTLSecurity{Enabled: true} }, defaultPeer(func(p *Peer) { p.MinTTL = 255 }), ReasonAccepted, nil},
		{"GTSM two hops away", func(s *spec) { s.TTLSecurity = &v1alpha2.TTLSecurity{Enabled: true, TTLMin: 254} }, defaultPeer(func(p *Peer) { p.MinTTL = 254 }), ReasonAccepted, nil},
		{"GTSM of no TTL", func(s *spec) { s.TTLSecurity = &v1alpha2.TTLSecurity{Enabled: true, TTLMin: 300} }, nil, ReasonTTLInvalid, nil},
		{"GTSM and multihop", func(s *spec) {
			s.EbgpMultihop, s.TTLSecurity = &v1alpha2.EbgpMultihop{Enabled: true}, &v1alpha2.TTLSecurity{Enabled: true}
		}, nil, ReasonTTLInvalid, []string{"exclude each other"}},

		{"BFD", func(s *spec) { s.BFD = &v1alpha2.BFD{} }, defaultPeer(func(p *Peer) {
			p.BFD = &bfd.Profile{MinTx: 300 * time.Millisecond, MinRx: 300 * time.Millisecond, DetectMult: 3}
		}), ReasonAccepted, nil},
		{"BFD profile", func(s *spec) {
			s.BFD = &v1alpha2.BFD{MinTx: 100, MinRx: 50, DetectMultiplier: 5, Multihop: true, MinimumTTL: 250}
		}, defaultPeer(func(p *Peer) {
			p.BFD = &bfd.Profile{MinTx: 100 * time.Millisecond, MinRx: 50 * time.Millisecond, DetectMult: 5, Multihop: true, MinTTL: 250}
		}), ReasonAccepted, nil},
		{"BFD with a TTL over one hop", func(s *spec) { s.BFD = &v1alpha2.BFD{MinimumTTL: 250} }, defaultPeer(func(p *Peer) {
			p.BFD = &bfd.Profile{MinTx: 300 * time.Millisecond, MinRx: 300 * time.Millisecond, DetectMult: 3}
		}), ReasonSettingsWithoutEffect, []string{"minimumTTL"}},
		{"BFD too fast", func(s *spec) { s.BFD = &v1alpha2.BFD{MinTx: 1} }, nil, ReasonBFDInvalid, []string{"minTx 1", "10 to 60000"}},
		{"BFD negative", func(s *spec) { s.BFD = &v1alpha2.BFD{MinRx: -300} }, nil, ReasonBFDInvalid, []string{"minRx"}},
		{"BFD multiplier", func(s *spec) { s.BFD = &v1alpha2.BFD{DetectMultiplier: 256} }, nil, ReasonBFDInvalid, []string{"detectMultiplier"}},
		{"BFD TTL", func(s *spec) { s.BFD = &v1alpha2.BFD{Multihop: true, MinimumTTL: -1} }, nil, ReasonBFDInvalid, []string{"minimumTTL"}},

		{"password", peerConf(func(c *v1alpha2.PeerConf) { c.AuthPassword = "secret" }), defaultPeer(func(p *Peer) { p.Password = "secret" }), ReasonAccepted, nil},
		{"long password", peerConf(func(c *v1alpha2.PeerConf) { c.AuthPassword = strings.Repeat("x", 81) }), nil, ReasonPasswordInvalid, []string{"81 bytes"}},
		{"selector that cannot be read", func(s *spec) {
			s.NodeSelector = &metav1.LabelSelector{MatchExpressions: []metav1.LabelSelectorRequirement{{Key: "a", Operator: "Maybe"}}}
		}, nil, ReasonSelectorInvalid, []string{"spec.nodeSelector", "Maybe"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			in := Input{Node: node1(), Conf: conf(v1alpha2.BgpConfSpec{AS: 50000}), Peers: []*v1alpha2.BgpPeer{bgpPeer("p", test.change)}}
			config, findings := Configure(in)
			var got *Peer
			if len(config.Peers) > 0 {
				got = &config.Peers[0]
			}
			if !reflect.DeepEqual(got, test.want) {
				t.Errorf("got  %+v\nwant %+v", got, test.want)
			}
			ok := test.reason == ReasonAccepted || test.reason == ReasonSettingsWithoutEffect
			wantFinding(t, findings.Peers["p"], ok, test.reason, test.says...)
		})
	}
}

func TestPeerOfTheCNI(t *testing.T) {
	peer := bgpPeer("p", func(*v1alpha2.BgpPeerSpec) {})
	peer.Labels = map[string]string{v1alpha2.LabelCNI: ""}
	config, findings := Configure(Input{Node: node1(), Conf: conf(v1alpha2.BgpConfSpec{AS: 50000}), Peers: []*v1alpha2.BgpPeer{peer}})
	if len(config.Peers) > 0 {
		t.Error("the CNI's peer has a session")
	}
	wantFinding(t, findings.Peers["p"], false, ReasonAnnouncedByCNI, v1alpha2.LabelCNI)
}

func TestNodeSelector(t *testing.T) {
	for _, test := range []struct {
		selector *metav1.LabelSelector
		want     bool
	}{
		{nil, true},
		{&metav1.LabelSelector{}, true},
		{&metav1.LabelSelector{MatchLabels: map[string]string{"rack": "1"}}, true},
		{&metav1.LabelSelector{MatchLabels: map[string]string{"rack": "2"}}, false},
		{&metav1.LabelSelector{MatchExpressions: []metav1.LabelSelectorRequirement{{Key: "rack", Operator: metav1.LabelSelectorOpExists}}}, true},
		{&metav1.LabelSelector{MatchExpressions: []metav1.LabelSelectorRequirement{{Key: "rack", Operator: metav1.LabelSelectorOpDoesNotExist}}}, false},
	} {
		node := node1()
		node.Labels = map[string]string{"rack": "1"}
		peer := bgpPeer("p", func(s *v1alpha2.BgpPeerSpec) { s.NodeSelector = test.selector })
		config, findings := Configure(Input{Node: node, Conf: conf(v1alpha2.BgpConfSpec{AS: 50000}), Peers: []*v1alpha2.BgpPeer{peer}})
		_, found := findings.Peers["p"]
		if found != test.want || (len(config.Peers) == 1) != test.want {
			t.Errorf("%v: got %v and %d sessions, want %v", test.selector, found, len(config.Peers), test.want)
		}
	}
}

// The finding about a selector with several errors does not change by itself,
// or the status would be written again and again.
func TestSelectorFindingIsStable(t *testing.T) {
	peer := bgpPeer("p", func(s *v1alpha2.BgpPeerSpec) {
		s.NodeSelector = &metav1.LabelSelector{MatchLabels: map[string]string{"a b": "", "c d": "", "e f": "", "g h": ""}}
	})
	in := Input{Node: node1(), Conf: conf(v1alpha2.BgpConfSpec{AS: 50000}), Peers: []*v1alpha2.BgpPeer{peer}}
	for range 50 {
		_, findings := Configure(in)
		wantFinding(t, findings.Peers["p"], false, ReasonSelectorInvalid, `"a b"`)
	}
}

// An address of the node is fine as a neighbor unless Fairway itself listens
// there: that is how a node peers with its CNI's router.
func TestNeighborOnTheNode(t *testing.T) {
	for _, test := range []struct {
		name     string
		conf     v1alpha2.BgpConfSpec
		neighbor string
		port     v1alpha2.Uint32
		passive  bool
		reason   Reason
	}{
		{"itself", v1alpha2.BgpConfSpec{}, "192.168.0.2", 0, false, ReasonNeighborIsSelf},
		{"itself by IPv6", v1alpha2.BgpConfSpec{}, "2001:db8::2", 0, false, ReasonNeighborIsSelf},
		{"itself on loopback", v1alpha2.BgpConfSpec{}, "127.0.0.1", 0, false, ReasonNeighborIsSelf},
		{"itself on another port", v1alpha2.BgpConfSpec{ListenPort: 17900}, "127.0.0.1", 17900, false, ReasonNeighborIsSelf},
		{"the CNI on loopback", v1alpha2.BgpConfSpec{ListenPort: 17900}, "127.0.0.1", 0, false, ReasonAccepted},
		{"the CNI on loopback by IPv6", v1alpha2.BgpConfSpec{ListenPort: 17900}, "::1", 0, false, ReasonAccepted},
		{"the CNI, no listener", v1alpha2.BgpConfSpec{ListenPort: -1}, "127.0.0.1", 0, false, ReasonAccepted},
		{"the CNI on another port", v1alpha2.BgpConfSpec{}, "192.168.0.2", 1790, false, ReasonAccepted},
		{"the CNI connects", v1alpha2.BgpConfSpec{}, "127.0.0.1", 0, true, ReasonAccepted},
		{"nobody can connect", v1alpha2.BgpConfSpec{ListenPort: -1}, "127.0.0.1", 0, true, ReasonNotListening},
		{"listens elsewhere", v1alpha2.BgpConfSpec{ListenAddresses: []string{"192.168.0.2"}}, "127.0.0.1", 0, false, ReasonAccepted},
		{"listens there", v1alpha2.BgpConfSpec{ListenAddresses: []string{"0.0.0.0"}}, "127.0.0.1", 0, false, ReasonNeighborIsSelf},
	} {
		t.Run(test.name, func(t *testing.T) {
			test.conf.AS = 50000
			peer := bgpPeer("p", func(s *v1alpha2.BgpPeerSpec) {
				s.Conf.NeighborAddress = test.neighbor
				s.Transport = &v1alpha2.Transport{RemotePort: test.port, PassiveMode: test.passive}
			})
			config, findings := Configure(Input{Node: node1(), Conf: conf(test.conf), Peers: []*v1alpha2.BgpPeer{peer}})
			wantFinding(t, findings.Peers["p"], test.reason == ReasonAccepted, test.reason)
			if !strings.HasPrefix(test.neighbor, "127.") || len(config.Peers) == 0 {
				return
			}
			if got := config.Peers[0].NextHop4; got != node1().Addr4 {
				t.Errorf("over loopback the next hop is %s, want the node's address", got)
			}
		})
	}
}

// Of two BgpPeers with one neighbor the older keeps it, whatever the order in
// which they are listed; an older one that is invalid does not have it.
func TestNeighborTaken(t *testing.T) {
	now := time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)
	named := func(name string, age time.Duration, change func(*v1alpha2.BgpPeerSpec)) *v1alpha2.BgpPeer {
		p := bgpPeer(name, change)
		p.CreationTimestamp = metav1.NewTime(now.Add(-age))
		return p
	}
	same := func(*v1alpha2.BgpPeerSpec) {}
	older, younger := named("z", time.Hour, same), named("a", time.Minute, same)
	mapped := named("b", time.Second, func(s *v1alpha2.BgpPeerSpec) { s.Conf.NeighborAddress = "::ffff:192.168.0.5" })
	in := Input{Node: node1(), Conf: conf(v1alpha2.BgpConfSpec{AS: 50000})}
	var first Config
	for i, order := range [][]*v1alpha2.BgpPeer{{older, younger, mapped}, {mapped, younger, older}, {younger, nil, older, mapped}} {
		in.Peers = order
		config, findings := Configure(in)
		if len(config.Peers) != 1 || config.Peers[0].Name != "z" {
			t.Fatalf("order %d: got %+v", i, config.Peers)
		}
		wantFinding(t, findings.Peers["z"], true, ReasonAccepted)
		wantFinding(t, findings.Peers["a"], false, ReasonNeighborTaken, "BgpPeer z")
		wantFinding(t, findings.Peers["b"], false, ReasonNeighborTaken, "BgpPeer z")
		if i == 0 {
			first = config
		} else if !reflect.DeepEqual(config, first) {
			t.Errorf("order %d: another Config", i)
		}
	}
	older.Spec.Timers = &v1alpha2.Timers{Config: &v1alpha2.TimersConfig{HoldTime: "1"}}
	if config, _ := Configure(in); len(config.Peers) != 1 || config.Peers[0].Name != "a" {
		t.Errorf("the older is invalid: got %+v", config.Peers)
	}
	younger.DeletionTimestamp = &metav1.Time{Time: now}
	config, findings := Configure(in)
	if len(config.Peers) != 1 || config.Peers[0].Name != "b" {
		t.Errorf("the younger is being deleted: got %+v", config.Peers)
	}
	if _, ok := findings.Peers["a"]; ok {
		t.Error("a finding about what is being deleted")
	}
	sameAge := []*v1alpha2.BgpPeer{named("d", 0, same), named("c", 0, same)}
	if config, _ := Configure(Input{Node: node1(), Conf: in.Conf, Peers: sameAge}); len(config.Peers) != 1 || config.Peers[0].Name != "c" {
		t.Errorf("of the same age: got %+v", config.Peers)
	}
}

// A session keeps its password while the Secret is gone, and has none made
// without it.
func TestPasswordSecretGoesAndComesBack(t *testing.T) {
	in := Input{Node: node1(), Conf: conf(v1alpha2.BgpConfSpec{AS: 50000})}
	peer := bgpPeer("p", func(s *v1alpha2.BgpPeerSpec) { s.Conf.PasswordSecretRef = &v1alpha2.SecretKeyRef{Name: "router"} })
	in.Peers = []*v1alpha2.BgpPeer{peer}
	secret := func(value string, err error) func(string, string) (string, error) {
		return func(name, key string) (string, error) {
			if name != "router" || key != "password" {
				return "", fmt.Errorf("asked for %s of %s", key, name)
			}
			return value, err
		}
	}
	gone := errors.New("not found")
	for _, step := range []struct {
		name     string
		value    string
		err      error
		password string // "" for no session
		reason   Reason
		says     string
	}{
		{"not there yet", "", gone, "", ReasonPasswordMissing, "Secret router: not found; there is no session"},
		{"there", "one", nil, "one", ReasonAccepted, ""},
		{"gone", "", gone, "one", ReasonPasswordMissing, "the last good password"},
		{"still gone", "", gone, "one", ReasonPasswordMissing, ""},
		{"empty", "", nil, "one", ReasonPasswordInvalid, "key password is empty"},
		{"too long", strings.Repeat("x", 81), nil, "one", ReasonPasswordInvalid, "81 bytes"},
		{"changed", "two", nil, "two", ReasonAccepted, ""},
	} {
		in.Password = secret(step.value, step.err)
		config, findings := Configure(in)
		password := ""
		if len(config.Peers) > 0 {
			password = config.Peers[0].Password
		}
		if password != step.password {
			t.Errorf("%s: got password %q, want %q", step.name, password, step.password)
		}
		wantFinding(t, findings.Peers["p"], step.reason == ReasonAccepted, step.reason, step.says)
		in.Previous = &config
	}

	// The password of one router is not shown to another.
	peer.Spec.Conf.NeighborAddress = "192.168.0.6"
	in.Password = secret("", gone)
	if config, _ := Configure(in); len(config.Peers) > 0 {
		t.Errorf("another neighbor gets the password: %+v", config.Peers)
	}

	peer.Spec.Conf.AuthPassword = "plain"
	in.Password = secret("two", nil)
	config, findings := Configure(in)
	if len(config.Peers) != 1 || config.Peers[0].Password != "two" {
		t.Errorf("beside a plain password: got %+v", config.Peers)
	}
	wantFinding(t, findings.Peers["p"], true, ReasonSettingsWithoutEffect, "authPassword has no effect")
}
