package v1alpha2_test

import (
	"fmt"
	"strconv"
	"strings"
	"testing"
	"unicode/utf8"

	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/fairway-lb/fairway/api/v1alpha2"
)

// As TestLargestEipIsAccepted, for the kinds of BGP.
func TestLargestRouterAndPeerAreAccepted(t *testing.T) {
	racks, listen, families := object{}, make([]any, 64), make([]any, 64)
	for i := range 256 {
		racks[fmt.Sprintf("zZ9%060d", i)] = int64(i)
	}
	for i := range listen {
		listen[i] = fmt.Sprintf("2001:0db8:0000:0000:0000:ffff:ffff:ff%02x", i)
		families[i] = object{
			"config":   object{"family": object{"afi": "AFI_OPAQUE", "safi": "SAFI_KEY_VALUE"}, "enabled": true},
			"addPaths": object{"config": object{"sendMax": int64(255)}},
		}
	}
	labels, expressions := object{}, make([]any, 100)
	for i := range expressions {
		labels[fmt.Sprintf("example.com/%063d", i)] = strings.Repeat("v", 63)
		expressions[i] = object{"key": fmt.Sprintf("example.com/%063d", i), "operator": "In", "values": []any{strings.Repeat("v", 63), "w"}}
	}
	name := strings.Repeat("a", 253)
	server := newAPIServer(t)
	for kind, spec := range map[string]object{
		"BgpConf": {"as": int64(1), "asPerRack": racks, "listenAddresses": listen, "policy": name},
		"BgpPeer": {
			"conf": object{
				"neighborAddress": "2001:0db8:0000:0000:0000:ffff:ffff:ffff", "description": strings.Repeat("d", 1024),
				"passwordSecretRef": object{"name": name, "key": name}, "peerGroup": strings.Repeat("g", 256), "vrf": strings.Repeat("v", 256),
			},
			"afiSafis": families, "nodeSelector": object{"matchLabels": labels, "matchExpressions": expressions},
		},
	} {
		if err := server.admit(object{"apiVersion": v1alpha2.GroupVersion.String(), "kind": kind, "metadata": object{"name": "default"}, "spec": spec}, nil); err != nil {
			t.Errorf("%s: %v", kind, err)
		}
	}
}

// A key of asPerRack that no label can have would never match a node.
func TestNamesOfRacks(t *testing.T) {
	server := newAPIServer(t)
	for _, name := range rackNames {
		server.compareRack(t, name)
	}
}

var rackNames = []string{
	"", "a", "Z", "0", "leaf1", "Leaf_1.a-b", "a--b", "a..b", strings.Repeat("a", 63), strings.Repeat("a", 64), strings.Repeat("a", 5000), strings.Repeat("a", 62) + "-",
	"-", "-a", "a-", "_", "_a", "a_", ".", ".a", "a.", "a b", " a", "a ", "a\n", "a/b", "a:b", "a@b", "a[b", "a`b", "a{b", "é", "aéb", "a\x00b",
}

func FuzzNamesOfRacks(f *testing.F) {
	for _, name := range rackNames {
		f.Add(name)
	}
	server := newAPIServer(f)
	f.Fuzz(func(t *testing.T, name string) {
		if utf8.ValidString(name) {
			server.compareRack(t, name)
		}
	})
}

func (s *apiServer) compareRack(t *testing.T, name string) {
	t.Helper()
	refused := s.admit(object{
		"apiVersion": v1alpha2.GroupVersion.String(), "kind": "BgpConf", "metadata": object{"name": "default"},
		"spec": object{"asPerRack": object{"first": int64(1), name: int64(2)}},
	}, nil)
	if reasons := validation.IsValidLabelValue(name); (len(reasons) == 0) != (refused == nil) {
		t.Errorf("%q: the API server says %v, as the value of a label %v", name, refused, reasons)
	}
}

// What is accepted as a timer is a number that BGP has room for.
func TestTimers(t *testing.T) {
	server := newAPIServer(t)
	for text, good := range map[string]bool{
		"": true, "0": true, "000": true, "3": true, "90": true, "0090": true, "65535": true, "0000065535": true,
		"1": false, "2": false, "002": false, "65536": false, "0000065536": false, "99999": false, "9999999999": false, "00000000090": false, "18446744073709551617": false,
		"30s": false, "1m": false, "-1": false, "+30": false, "3.0": false, "1e2": false, "0x1e": false, "30 ": false, " 30": false, "30\n": false, "３０": false, "ninety": false,
	} {
		if err := server.admitTimers(object{"holdTime": text}); (err == nil) != good {
			t.Errorf("holdTime %q: %v", text, err)
		}
	}
	for _, c := range []struct {
		hold, keepalive string
		good            bool
	}{
		{"90", "30", true}, {"3", "1", true}, {"9", "8", true}, {"65535", "65534", true}, {"00030", "29", true}, {"180", "90", true},
		{"", "89", true}, {"0", "89", true}, {"000", "89", true}, {"30", "0", true}, {"30", "", true},
		{"9", "9", false}, {"9", "10", false}, {"30", "0030", false}, {"", "90", false}, {"0", "90", false}, {"000", "90", false}, {"3", "65535", false},
	} {
		if err := server.admitTimers(object{"holdTime": c.hold, "keepaliveInterval": c.keepalive}); (err == nil) != c.good {
			t.Errorf("holdTime %q, keepaliveInterval %q: %v", c.hold, c.keepalive, err)
		}
	}
}

func FuzzTimers(f *testing.F) {
	f.Add("90", "30")
	f.Add("", "90")
	f.Add("30s", "0x1")
	server := newAPIServer(f)
	f.Fuzz(func(t *testing.T, hold, keepalive string) {
		if !utf8.ValidString(hold) || !utf8.ValidString(keepalive) {
			return
		}
		err := server.admitTimers(object{"holdTime": hold, "keepaliveInterval": keepalive})
		if err != nil {
			if strings.Contains(err.Error(), "evaluating rule") {
				t.Fatalf("%q, %q: %v", hold, keepalive, err)
			}
			return
		}
		for _, text := range []string{hold, keepalive} {
			if _, err := strconv.ParseUint(text, 10, 16); err != nil && text != "" {
				t.Fatalf("%q is accepted, and is %v", text, err)
			}
		}
	})
}

func (s *apiServer) admitTimers(timers object) error {
	return s.admit(object{
		"apiVersion": v1alpha2.GroupVersion.String(), "kind": "BgpPeer", "metadata": object{"name": "router"},
		"spec": object{"conf": object{"neighborAddress": "10.0.0.1"}, "timers": object{"config": timers}},
	}, nil)
}

// What the API server says ends up in logs.
func TestRefusalsDoNotTellThePassword(t *testing.T) {
	server := newAPIServer(t)
	for _, spec := range []string{
		`{conf: {authPassword: hunter2}}`,
		`{conf: {authPassword: hunter2, neighborAddress: 10.0.0.0/8}}`,
		`{conf: {authPassword: hunter2, neighborAddress: 10.0.0.1, neighborInterface: eth0, passwordSecretRef: {name: bgp}}}`,
		`{conf: {authPassword: hunter2, neighborAddress: 10.0.0.1}, transport: {localAddress: "::1", remoteAddress: 10.0.0.2}, ebgpMultihop: {enabled: true}, ttlSecurity: {enabled: true}}`,
		`{conf: {authPassword: [hunter2]}}`,
		fmt.Sprintf(`{conf: {neighborAddress: 10.0.0.1, authPassword: %s}}`, strings.Repeat("hunter2", 12)),
	} {
		err := server.admit(toObject(t, `{apiVersion: network.kubesphere.io/v1alpha2, kind: BgpPeer, metadata: {name: router}, spec: `+spec+`}`), nil)
		if err == nil || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: %v", spec, err)
		}
	}
}

// What v1alpha1 has a field for must not become in it what v1alpha2 refuses.
func TestRulesOfV1alpha1(t *testing.T) {
	server := newAPIServerOf(t, "v1alpha1")
	for text, message := range map[string]string{
		`{kind: BgpConf, metadata: {name: default}, spec: {as: 50000, port: 17900, routerID: 192.168.0.2}}`:                                           "",
		`{kind: BgpConf, metadata: {name: default}, spec: {as: 50000, port: 17900, routerID: 0.0.0.0}}`:                                               "routerID must be an IPv4 address",
		`{kind: BgpConf, metadata: {name: default}, spec: {as: 50000, port: 65536, routerID: 192.168.0.2}}`:                                           "spec.port in body should be less than or equal to 65535",
		`{kind: BgpPeer, metadata: {name: r}, spec: {config: {neighborAddress: 10.0.0.1}, addPaths: {sendMax: 255}, transport: {remotePort: 65535}}}`: "",
		`{kind: BgpPeer, metadata: {name: r}, spec: {config: {neighborAddress: "fe80::1%eth0"}}}`:                                                     "",
		`{kind: BgpPeer, metadata: {name: r}, spec: {config: {neighborAddress: 224.0.0.1}}}`:                                                          "neighborAddress must be the address of one router",
		`{kind: BgpPeer, metadata: {name: r}, spec: {config: {neighborAddress: 10.0.0.1/32}}}`:                                                        "neighborAddress must be one IP address",
		`{kind: BgpPeer, metadata: {name: r}, spec: {config: {neighborAddress: 10.0.0.1}, addPaths: {sendMax: 256}}}`:                                 "sendMax must be at most 255",
		`{kind: BgpPeer, metadata: {name: r}, spec: {config: {neighborAddress: 10.0.0.1}, transport: {remotePort: 65536}}}`:                           "remotePort must be at most 65535",
		`{kind: BgpPeer, metadata: {name: r}, spec: {}}`:                                                                                              "spec.config names no neighbor",
	} {
		err := server.admit(toObject(t, text), nil)
		if (err == nil) != (message == "") || (err != nil && !strings.Contains(err.Error(), message)) {
			t.Errorf("%s: got %v, want %q", text, err, message)
		}
	}
}
