package bgp

import (
	"net/netip"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/fairway-lb/fairway/api/v1alpha2"
)

func TestFamilies(t *testing.T) {
	family := func(afi, safi string) v1alpha2.AfiSafi {
		return v1alpha2.AfiSafi{Config: &v1alpha2.AfiSafiConfig{Family: &v1alpha2.Family{Afi: afi, Safi: safi}}}
	}
	paths := func(receive bool, most v1alpha2.Uint32) v1alpha2.AfiSafi {
		return v1alpha2.AfiSafi{AddPaths: &v1alpha2.AddPaths{Config: &v1alpha2.AddPathsConfig{Receive: receive, SendMax: most}}}
	}
	none := netip.Addr{}
	four, six := node1().Addr4, node1().Addr6
	only4, only6 := Node{Name: "n", Addr4: four}, Node{Name: "n", Addr6: six}
	for _, test := range []struct {
		name       string
		node       Node
		router     []v1alpha2.Uint32
		neighbor   string
		list       []v1alpha2.AfiSafi
		want       []Family // nil: no session
		hop4, hop6 netip.Addr
		reason     Reason
		says       string
	}{
		{"both over IPv4", node1(), nil, "192.168.0.5", []v1alpha2.AfiSafi{family("AFI_IP6", "SAFI_UNICAST"), family("AFI_IP", "SAFI_UNICAST")}, []Family{{}, {IPv6: true}}, none, six, ReasonAccepted, ""},
		{"both over IPv6", node1(), nil, "2001:db8::5", []v1alpha2.AfiSafi{family("AFI_IP", "SAFI_UNICAST"), family("AFI_IP6", "SAFI_UNICAST")}, []Family{{}, {IPv6: true}}, four, none, ReasonAccepted, ""},
		{"IPv6 over IPv4, no IPv6 address", only4, nil, "192.168.0.5", []v1alpha2.AfiSafi{family("AFI_IP", ""), family("AFI_IP6", "")}, []Family{{}}, none, none, ReasonNextHopMissing, "Node n has no IPv6 InternalIP"},
		{"IPv6 only over IPv4, no IPv6 address", only4, nil, "192.168.0.5", []v1alpha2.AfiSafi{family("AFI_IP6", "")}, nil, none, none, ReasonNextHopMissing, ""},
		{"IPv4 over IPv6, no IPv4 address", only6, nil, "2001:db8::5", []v1alpha2.AfiSafi{family("AFI_IP", "")}, []Family{{}}, none, none, ReasonAccepted, ""},
		{"IPv4 over link-local", node1(), nil, "fe80::5%eth0", []v1alpha2.AfiSafi{family("AFI_IP", "")}, []Family{{}}, four, none, ReasonAccepted, ""},
		{"loopback", node1(), nil, "127.0.0.1", []v1alpha2.AfiSafi{family("AFI_IP", ""), family("AFI_IP6", "")}, []Family{{}, {IPv6: true}}, four, six, ReasonAccepted, ""},
		{"loopback, no IPv4 address", only6, nil, "127.0.0.1", nil, nil, none, none, ReasonNextHopMissing, "no IPv4 InternalIP"},
		{"without config", node1(), nil, "2001:db8::5", []v1alpha2.AfiSafi{{}}, []Family{{IPv6: true}}, none, none, ReasonAccepted, ""},
		{"enabled is not asked", node1(), nil, "192.168.0.5", []v1alpha2.AfiSafi{{Config: &v1alpha2.AfiSafiConfig{Enabled: false}}}, []Family{{}}, none, none, ReasonAccepted, ""},
		{"add-path", node1(), nil, "192.168.0.5", []v1alpha2.AfiSafi{paths(true, 4)}, []Family{{AddPathsReceive: true, AddPathsSendMax: 4}}, none, none, ReasonAccepted, ""},
		{"too many paths", node1(), nil, "192.168.0.5", []v1alpha2.AfiSafi{paths(false, 256)}, []Family{{AddPathsSendMax: 255}}, none, none, ReasonSettingsWithoutEffect, "sendMax 256 counts as 255"},
		{"twice", node1(), nil, "192.168.0.5", []v1alpha2.AfiSafi{paths(false, 4), family("AFI_IP", "")}, []Family{{AddPathsSendMax: 4}}, none, none, ReasonSettingsWithoutEffect, "the first entry counts"},
		{"one of them not served", node1(), nil, "192.168.0.5", []v1alpha2.AfiSafi{family("AFI_L2VPN", "SAFI_EVPN"), family("AFI_IP", "SAFI_UNICAST")}, []Family{{}}, none, none, ReasonFamilyUnsupported, "AFI_L2VPN SAFI_EVPN is not served"},
		{"none served", node1(), nil, "192.168.0.5", []v1alpha2.AfiSafi{family("AFI_IP", "SAFI_FLOW_SPEC_UNICAST")}, nil, none, none, ReasonFamilyUnsupported, ""},
		{"not the router's", node1(), []v1alpha2.Uint32{65537}, "2001:db8::5", nil, nil, none, none, ReasonFamilyUnsupported, "leaves IPv6 unicast out: add 131073"},
	} {
		t.Run(test.name, func(t *testing.T) {
			off := &v1alpha2.GracefulRestart{}
			spec := v1alpha2.BgpConfSpec{AS: 50000, RouterID: "192.168.0.2", ListenPort: 17900, Families: test.router, GracefulRestart: off}
			peer := bgpPeer("p", func(s *v1alpha2.BgpPeerSpec) { s.Conf.NeighborAddress, s.AfiSafis = test.neighbor, test.list })
			config, findings := Configure(Input{Node: test.node, Conf: conf(spec), Peers: []*v1alpha2.BgpPeer{peer}})
			wantFinding(t, findings.Peers["p"], test.reason == ReasonAccepted || test.reason == ReasonSettingsWithoutEffect, test.reason, test.says)
			if len(config.Peers) == 0 || test.want == nil {
				if len(config.Peers) > 0 || test.want != nil {
					t.Fatalf("got %d sessions, want families %v", len(config.Peers), test.want)
				}
				return
			}
			got := config.Peers[0]
			if !reflect.DeepEqual(got.Families, test.want) || got.NextHop4 != test.hop4 || got.NextHop6 != test.hop6 {
				t.Errorf("got %+v with next hops %s and %s, want %+v with %s and %s", got.Families, got.NextHop4, got.NextHop6, test.want, test.hop4, test.hop6)
			}
		})
	}
}

func TestGracefulRestart(t *testing.T) {
	type restart = v1alpha2.GracefulRestart
	byDefault := GracefulRestart{Enabled: true, RestartTime: 120 * time.Second, DeferralTime: time.Second}
	for _, test := range []struct {
		name       string
		conf, peer *restart
		want       GracefulRestart
		says       string
	}{
		{"by default", nil, nil, byDefault, ""},
		{"on", &restart{Enabled: true}, nil, byDefault, ""},
		{"off for all", &restart{}, nil, GracefulRestart{}, ""},
		{"off for one", &restart{Enabled: true}, &restart{RestartTime: 60}, GracefulRestart{}, ""},
		{"on for one", &restart{}, &restart{Enabled: true}, byDefault, ""},
		{"times", nil, &restart{Enabled: true, RestartTime: 60, DeferralTime: 5, NotificationEnabled: true, HelperOnly: true, StaleRoutesTime: 7}, GracefulRestart{Enabled: true, HelperOnly: true, RestartTime: time.Minute, DeferralTime: 5 * time.Second, Notification: true}, ""},
		{"long-lived", nil, &restart{Enabled: true, LonglivedEnabled: true}, GracefulRestart{Enabled: true, RestartTime: 120 * time.Second, DeferralTime: time.Second, LongLived: true, StaleRoutesTime: 24 * time.Hour}, ""},
		{"long-lived for an hour", nil, &restart{Enabled: true, LonglivedEnabled: true, StaleRoutesTime: 3600}, GracefulRestart{Enabled: true, RestartTime: 120 * time.Second, DeferralTime: time.Second, LongLived: true, StaleRoutesTime: time.Hour}, ""},
		{"more than BGP can say", &restart{Enabled: true, RestartTime: 5000}, nil, GracefulRestart{Enabled: true, RestartTime: 4095 * time.Second, DeferralTime: time.Second}, "BgpConf's spec.gracefulRestart.restartTime 5000 counts as 4095"},
		{"state is ignored", nil, &restart{Enabled: true, PeerRestarting: true, LocalRestarting: true, PeerRestartTime: 9, Mode: "x"}, byDefault, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			peer := bgpPeer("p", func(s *v1alpha2.BgpPeerSpec) { s.GracefulRestart = test.peer })
			config, findings := Configure(Input{Node: node1(), Conf: conf(v1alpha2.BgpConfSpec{AS: 50000, GracefulRestart: test.conf}), Peers: []*v1alpha2.BgpPeer{peer}})
			if got := config.Peers[0].GracefulRestart; got != test.want {
				t.Errorf("got %+v, want %+v", got, test.want)
			}
			if got := config.Peers[0].Families[0].GracefulRestart; got != test.want.Enabled {
				t.Errorf("the family is in graceful restart: got %v", got)
			}
			if got := findings.Peers["p"]; !got.OK || !strings.Contains(got.Message, test.says) {
				t.Errorf("got %+v", got)
			}
		})
	}
}
