package v1alpha1_test

import (
	"cmp"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/conversion"
	"sigs.k8s.io/randfill"
	"sigs.k8s.io/yaml"

	"github.com/fairway-lb/fairway/api/v1alpha1"
	"github.com/fairway-lb/fairway/api/v1alpha2"
)

// kind makes empty objects of one kind.
type kind struct {
	legacy func() legacyObject
	hub    func() hubObject
}

type legacyObject interface {
	client.Object
	conversion.Convertible
}

type hubObject interface {
	client.Object
	conversion.Hub
}

func kinds() map[string]kind {
	return map[string]kind{
		"Eip": {func() legacyObject { return &v1alpha1.Eip{} }, func() hubObject { return &v1alpha2.Eip{} }},
		"BgpConf": {
			func() legacyObject { return &v1alpha1.BgpConf{} },
			func() hubObject { return &v1alpha2.BgpConf{} },
		},
		"BgpPeer": {
			func() legacyObject { return &v1alpha1.BgpPeer{} },
			func() hubObject { return &v1alpha2.BgpPeer{} },
		},
	}
}

// toLegacy converts, and passes the result over the wire.
func (k kind) toLegacy(t testing.TB, hub hubObject) legacyObject {
	t.Helper()
	converted, received := k.legacy(), k.legacy()
	if err := converted.ConvertFrom(hub); err != nil {
		t.Fatalf("to v1alpha1: %v", err)
	}
	overWire(t, converted, received)
	return received
}

// toHub converts, and passes the result over the wire.
func (k kind) toHub(t testing.TB, legacy legacyObject) hubObject {
	t.Helper()
	converted, received := k.hub(), k.hub()
	if err := legacy.ConvertTo(converted); err != nil {
		t.Fatalf("to v1alpha2: %v", err)
	}
	overWire(t, converted, received)
	return received
}

func overWire(t testing.TB, from, to any) {
	t.Helper()
	text, err := json.Marshal(from)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(text, to); err != nil {
		t.Fatalf("%v in %s", err, text)
	}
}

// filler fills objects at random with what can be stored.
func filler(seed int64) *randfill.Filler {
	return randfill.NewWithSeed(seed).NilChance(0.4).NumElements(0, 3).MaxDepth(20).Funcs(
		func(*metav1.TypeMeta, randfill.Continue) {},
		func(meta *metav1.ObjectMeta, c randfill.Continue) {
			meta.Name = c.String(0)
			c.Fill(&meta.Annotations)
			c.Fill(&meta.Labels)
			c.Fill(&meta.Finalizers)
		},
		func(at *metav1.Time, c randfill.Continue) { *at = metav1.NewTime(time.Unix(c.Int63n(1<<32), 0)) },
	)
}

func TestRoundTrip(t *testing.T) {
	for name, k := range kinds() {
		t.Run(name, func(t *testing.T) {
			for seed := range int64(1000) {
				hub := k.hub()
				filler(seed).Fill(hub)
				original := hub.DeepCopyObject()
				legacy := k.toLegacy(t, hub)
				if !equality.Semantic.DeepEqual(hub, original) {
					t.Fatalf("seed %d: the conversion changed the object that it converts", seed)
				}
				if back := k.toHub(t, legacy); !equality.Semantic.DeepEqual(back, original) {
					t.Fatalf("seed %d: v1alpha2 became\n%s\nby way of\n%s\nfrom\n%s", seed, text(t, back), text(t, legacy), text(t, original))
				}

				legacy = k.legacy()
				filler(seed).Fill(legacy)
				original = legacy.DeepCopyObject()
				hub = k.toHub(t, legacy)
				if !equality.Semantic.DeepEqual(legacy, original) {
					t.Fatalf("seed %d: the conversion changed the object that it converts", seed)
				}
				if back := k.toLegacy(t, hub); !equality.Semantic.DeepEqual(back, original) {
					t.Fatalf("seed %d: v1alpha1 became\n%s\nby way of\n%s\nfrom\n%s", seed, text(t, back), text(t, hub), text(t, original))
				}
			}
		})
	}
}

// A client of v1alpha1 changes every field that it knows, and changes all of
// them back: its writes count, and what it does not know is never lost.
func TestFieldsOfV1alpha1Win(t *testing.T) {
	for name, k := range kinds() {
		t.Run(name, func(t *testing.T) {
			for seed := range int64(1000) {
				stored, wanted := k.hub(), k.legacy()
				filler(seed).Fill(stored)
				filler(-seed).Fill(wanted)
				before := k.toLegacy(t, stored)
				wanted.SetAnnotations(before.GetAnnotations())
				changed := k.toLegacy(t, k.toHub(t, wanted))
				if got, want := specOf(t, complete(changed)), specOf(t, complete(wanted)); !equality.Semantic.DeepEqual(got, want) {
					t.Fatalf("seed %d: v1alpha1 wrote %v and reads %v", seed, want, got)
				}
				before.SetAnnotations(changed.GetAnnotations())
				back := k.toLegacy(t, k.toHub(t, before))
				if got, want := back.GetAnnotations(), before.GetAnnotations(); name != "BgpPeer" && !equality.Semantic.DeepEqual(got, want) {
					t.Fatalf("seed %d: the rest was %v and is %v", seed, want, got)
				}
			}
		})
	}
}

func TestConversionOfFields(t *testing.T) {
	for _, test := range []struct {
		name, kind, hub, legacy string
	}{
		{
			"a pool as OpenELB had it", "Eip",
			`{spec: {address: 10.0.0.1, protocol: bgp, disable: true, usingKnownIPs: true}, status: {usage: 1, poolSize: 1, used: {10.0.0.1: a/b}}}`,
			`{spec: {address: 10.0.0.1, protocol: bgp, disable: true, usingKnownIPs: true}, status: {usage: 1, poolSize: 1, used: {10.0.0.1: a/b}}}`,
		},
		{
			"a pool with more", "Eip",
			`{spec: {address: 10.0.0.1, interface: eth0, protocol: layer2, quarantine: 10m0s}}`,
			`{metadata: {annotations: {network.kubesphere.io/v1alpha2-spec: '{"interface":"eth0","quarantine":"10m0s"}'}}, spec: {address: 10.0.0.1, protocol: layer2}}`,
		},
		{
			"a router", "BgpConf",
			`{spec: {as: 50000, listenPort: 17900, routerId: 10.0.0.1}}`,
			`{spec: {as: 50000, port: 17900, routerID: 10.0.0.1}}`,
		},
		{
			"a router with more", "BgpConf",
			`{spec: {as: 50000, families: [65537]}}`,
			`{metadata: {annotations: {network.kubesphere.io/v1alpha2-spec: '{"families":[65537]}'}}, spec: {as: 50000}}`,
		},
		{
			"a router with third-party next hops", "BgpConf",
			`{spec: {as: 50000, asPerRack: {a: 1}, nextHops: nodes}, status: {nodesConfStatus: {node1: {as: 50000, conditions: [{type: Ready, status: "True"}]}}}}`,
			`{metadata: {annotations: {network.kubesphere.io/v1alpha2-spec: '{"asPerRack":{"a":1},"nextHops":"nodes"}'}}, spec: {as: 50000}, status: {nodesConfStatus: {node1: {as: 50000, conditions: [{type: Ready, status: "True"}]}}}}`,
		},
		{
			"a pool for some peers", "Eip",
			`{spec: {address: 10.0.0.1, bgp: {communities: ["1:2"], med: 0, aggregationLength: 24, peers: [a], peerSelector: {}}}}`,
			`{metadata: {annotations: {network.kubesphere.io/v1alpha2-spec: '{"bgp":{"communities":["1:2"],"med":0,"aggregationLength":24,"peers":["a"],"peerSelector":{}}}'}}, spec: {address: 10.0.0.1}}`,
		},
		{
			"a neighbor by a Secret, watched", "BgpPeer",
			`{spec: {conf: {neighborAddress: 10.0.0.1, passwordSecretRef: {name: s}}, ttlSecurity: {enabled: true}, transport: {localAddress: 10.0.0.2}, bfd: {}}, status: {nodesPeerStatus: {node1: {bfdState: {sessionState: Up, downs: 1}}}}}`,
			`{metadata: {annotations: {network.kubesphere.io/v1alpha2-spec: '{"conf":{"passwordSecretRef":{"name":"s"}},"transport":{"localAddress":"10.0.0.2"},"ttlSecurity":{"enabled":true},"bfd":{}}'}}, spec: {config: {neighborAddress: 10.0.0.1}, transport: {}}, status: {nodesPeerStatus: {node1: {bfdState: {sessionState: Up, downs: 1}}}}}`,
		},
		{
			"a neighbor", "BgpPeer",
			`{spec: {conf: {neighborAddress: 10.0.0.1, peerAs: 50001}, transport: {passiveMode: true, remotePort: 17900}, afiSafis: [{addPaths: {config: {sendMax: 8}}}]}}`,
			`{spec: {config: {neighborAddress: 10.0.0.1, peerAs: 50001}, transport: {passiveMode: true, remotePort: 17900}, addPaths: {sendMax: 8}}}`,
		},
		{
			"a neighbor in v1alpha1", "BgpPeer",
			`{metadata: {annotations: {network.kubesphere.io/v1alpha1-spec: '{"usingPortForward":true}'}}, spec: {conf: {neighborAddress: 10.0.0.1}}}`,
			`{spec: {config: {neighborAddress: 10.0.0.1}, usingPortForward: true}}`,
		},
		{
			"a neighbor with more", "BgpPeer",
			`{spec: {conf: {neighborAddress: 10.0.0.1, authPassword: x}, afiSafis: [{config: {enabled: true}, addPaths: {config: {sendMax: 8}}}, {addPaths: {config: {sendMax: 2}}}]}}`,
			`{metadata: {annotations: {network.kubesphere.io/v1alpha2-spec: '{"conf":{"authPassword":"x"},"afiSafis":[{"config":{"enabled":true},"addPaths":{"config":{}}},{"addPaths":{"config":{"sendMax":2}}}]}'}}, spec: {config: {neighborAddress: 10.0.0.1}, addPaths: {sendMax: 8}}}`,
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			k := kinds()[test.kind]
			hub, legacy := k.hub(), k.legacy()
			read(t, test.hub, hub)
			read(t, test.legacy, legacy)
			if got := k.toLegacy(t, hub); !equality.Semantic.DeepEqual(got, legacy) {
				t.Errorf("in v1alpha1:\n%s\nwant\n%s", text(t, got), text(t, legacy))
			}
			if got := k.toHub(t, legacy); !equality.Semantic.DeepEqual(got, hub) {
				t.Errorf("in v1alpha2:\n%s\nwant\n%s", text(t, got), text(t, hub))
			}
		})
	}
}

// sendMax is the one field that is at another depth: it is that of the first
// family, whatever else the families say.
func TestSendMax(t *testing.T) {
	for families, want := range map[string]string{
		`[]`:                                   `[{addPaths: {config: {sendMax: 7}}}]`,
		`[{}]`:                                 `[{addPaths: {config: {sendMax: 7}}}]`,
		`[{addPaths: {}}]`:                     `[{addPaths: {config: {sendMax: 7}}}]`,
		`[{addPaths: {config: {sendMax: 2}}}]`: `[{addPaths: {config: {sendMax: 7}}}]`,
		`[{config: {enabled: true}, addPaths: {config: {receive: true}}}, {}]`: `[{config: {enabled: true}, addPaths: {config: {receive: true, sendMax: 7}}}, {}]`,
	} {
		k := kinds()["BgpPeer"]
		stored, wanted := &v1alpha2.BgpPeer{}, &v1alpha2.BgpPeer{}
		read(t, families, &stored.Spec.AfiSafis)
		read(t, want, &wanted.Spec.AfiSafis)
		legacy := k.toLegacy(t, stored).(*v1alpha1.BgpPeer)
		legacy.Spec.AddPaths = &v1alpha1.AddPaths{SendMax: 7}
		if got := k.toHub(t, legacy); !equality.Semantic.DeepEqual(got, wanted) {
			t.Errorf("%s with sendMax 7 became\n%s", families, text(t, got))
		}
	}
}

// An annotation of ours that somebody else wrote neither stops an object nor
// changes what v1alpha1 says.
func TestForeignAnnotationIsIgnored(t *testing.T) {
	for _, value := range []string{
		"", "{", "null", "[]", `"text"`, "1", strings.Repeat("[", 20000), `{"priority":"high"}`, `{"quarantine":"soon"}`,
		`{"conf":[]}`, `{"as":-1}`, "\x00\xff", `{"unknown":1}`,
	} {
		for name, k := range kinds() {
			legacy, plain := k.legacy(), k.legacy()
			legacy.SetAnnotations(map[string]string{v1alpha1.AnnotationV1alpha2Spec: value, v1alpha1.AnnotationV1alpha1Spec: value, "mine": "kept"})
			plain.SetAnnotations(map[string]string{"mine": "kept"})
			got, want := k.toHub(t, legacy), k.toHub(t, plain)
			if !equality.Semantic.DeepEqual(specOf(t, got), specOf(t, want)) {
				t.Errorf("%s: annotation %.40q became\n%s", name, value, text(t, got))
			}
			if got.GetAnnotations()["mine"] != "kept" || got.GetAnnotations()[v1alpha1.AnnotationV1alpha2Spec] != "" {
				t.Errorf("%s: annotations %v", name, got.GetAnnotations())
			}
			hub := k.hub()
			hub.SetAnnotations(map[string]string{v1alpha1.AnnotationV1alpha2Spec: value, v1alpha1.AnnotationV1alpha1Spec: value})
			if back := k.toLegacy(t, hub); back.GetAnnotations()[v1alpha1.AnnotationV1alpha2Spec] != "" {
				t.Errorf("%s: annotation %.40q is still there: %v", name, value, back.GetAnnotations())
			}
		}
	}
}

// What cannot be kept in annotations can be read, and cannot be overwritten.
func TestTooLargeForAnnotations(t *testing.T) {
	k := kinds()["Eip"]
	stored := &v1alpha2.Eip{Spec: v1alpha2.EipSpec{Address: "10.0.0.1", Namespaces: []string{strings.Repeat("n", 256<<10)}}}
	legacy := k.toLegacy(t, stored)
	if err := legacy.ConvertTo(&v1alpha2.Eip{}); err == nil || !strings.Contains(err.Error(), "change it in v1alpha2") {
		t.Errorf("got %v, want it refused", err)
	}
}

func FuzzAnnotation(f *testing.F) {
	for _, value := range []string{
		`{"interface":"eth0","quarantine":"10m0s","sharing":{},"namespaceLimits":{"*":1},"serviceSelector":{"matchLabels":{"a":"b"}}}`,
		`{"conf":{"authPassword":"x"},"afiSafis":[{"addPaths":{"config":{}}}],"transport":{"tcpMss":1}}`,
		`{"families":[65537],"gracefulRestart":{"enabled":true},"asPerRack":{"a":1},"nextHops":"nodes"}`,
		`{"conf":{"passwordSecretRef":{"name":"s"}},"ttlSecurity":{"ttlMin":254},"bfd":{"minTx":100}}`,
		`{"bgp":{"communities":["1:2"],"med":0,"peers":["a"],"peerSelector":{"matchLabels":{"a":"b"}}}}`,
		`{"address":"10.0.0.9"}`, `{"conf":null}`, `{"afiSafis":[{"addPaths":null}]}`,
	} {
		f.Add(value)
	}
	f.Fuzz(func(t *testing.T, value string) {
		if value == "too large" {
			return
		}
		for name, k := range kinds() {
			legacy := k.legacy()
			legacy.SetAnnotations(map[string]string{v1alpha1.AnnotationV1alpha2Spec: value})
			// Whatever it says becomes an object that is lossless again, in
			// which v1alpha1 has its way.
			hub := k.toHub(t, legacy)
			seen := k.toLegacy(t, hub)
			if back := k.toHub(t, seen); !equality.Semantic.DeepEqual(back, hub) {
				t.Errorf("%s: v1alpha2 became\n%s\nfrom\n%s", name, text(t, back), text(t, hub))
			}
			if eip, ok := hub.(*v1alpha2.Eip); ok && (eip.Spec.Address != "" || eip.Spec.Disable) {
				t.Errorf("the annotation changed fields of v1alpha1: %s", text(t, hub))
			}
		}
	})
}

func read(t testing.TB, text string, into any) {
	t.Helper()
	if err := yaml.UnmarshalStrict([]byte(text), into); err != nil {
		t.Fatalf("%s: %v", text, err)
	}
}

// complete makes absent parts of a BgpPeer empty ones, which mean the same.
func complete(object legacyObject) legacyObject {
	if peer, ok := object.(*v1alpha1.BgpPeer); ok {
		peer.Spec.Config = cmp.Or(peer.Spec.Config, &v1alpha1.NeighborConfig{})
		peer.Spec.AddPaths = cmp.Or(peer.Spec.AddPaths, &v1alpha1.AddPaths{})
		peer.Spec.Transport = cmp.Or(peer.Spec.Transport, &v1alpha1.Transport{})
	}
	return object
}

func specOf(t testing.TB, object any) any {
	t.Helper()
	var fields map[string]any
	overWire(t, object, &fields)
	return fields["spec"]
}

func text(t testing.TB, object any) string {
	t.Helper()
	text, err := json.Marshal(object)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}
