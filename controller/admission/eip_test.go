package admission

import (
	"net/netip"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"

	"github.com/fairway-lb/fairway/api/v1alpha2"
)

// eipCase is an Eip, written in YAML, in a cluster.
type eipCase struct {
	name     string
	old, eip string // metadata without the name, and spec; old is empty for a new one
	denial   string
	warnings []string // part of each
}

// The cluster of these cases: a default pool, one that goes away, one that
// cannot be read, and addresses in use.
func testCluster(t *testing.T) *Cluster {
	t.Helper()
	gone := `{metadata: {name: gone, deletionTimestamp: "2025-01-01T00:00:00Z", annotations: {eip.openelb.kubesphere.io/is-default-eip: "true"}}, spec: {address: 10.9.0.0/24}}`
	return &Cluster{
		Eips: []v1alpha2.Eip{
			*parse(t, `{metadata: {name: pool}, spec: {address: 10.0.0.0/24}}`),
			*parse(t, `{metadata: {name: z}, spec: {address: 10.1.0.0/24, addresses: ["2001:db8::/64"], exclude: [10.1.0.9]}}`),
			*parse(t, `{metadata: {name: a, annotations: {eip.openelb.kubesphere.io/is-default-eip: "True"}}, spec: {address: 10.1.0.5-10.1.0.6}}`),
			*parse(t, gone),
			*parse(t, `{metadata: {name: broken}, spec: {address: x}}`),
		},
		Services: []corev1.Service{
			holder("web", "pool", "10.0.0.7"),
			holder("api", "pool", "10.0.0.5", "2001:db8:9::5"),
			holder("other", "z", "10.1.0.1"),
			holder("junk", "pool", "", "junk"),
		},
		NodeAddresses: []netip.Addr{netip.MustParseAddr("192.168.0.11"), netip.MustParseAddr("10.0.0.11"), netip.MustParseAddr("fd00:1::11")},
	}
}

func parse(t *testing.T, text string) *v1alpha2.Eip {
	t.Helper()
	eip := &v1alpha2.Eip{}
	if err := yaml.UnmarshalStrict([]byte(text), eip); err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	return eip
}

func holder(name, pool string, addresses ...string) corev1.Service {
	svc := corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "dev", Name: name, Labels: map[string]string{v1alpha2.LabelPool: pool}}}
	for _, address := range addresses {
		svc.Status.LoadBalancer.Ingress = append(svc.Status.LoadBalancer.Ingress, corev1.LoadBalancerIngress{IP: address})
	}
	return svc
}

func TestReviewEip(t *testing.T) {
	const (
		overlapA = "eip address overlap with a"
		overlapZ = "eip address overlap with z"
		isDef    = `metadata: {annotations: {eip.openelb.kubesphere.io/is-default-eip: "true"}}, `
		cut5     = "would cut 10.0.0.5 from the pool, which Service dev/api holds"
	)
	for _, c := range []eipCase{
		// Table 1.6 of OpenELB's, and its order.
		{name: "new", eip: `spec: {address: 10.2.0.1}`},
		{name: "address unparsable", eip: isDef + `spec: {address: 10.2.0.2-10.2.0.1, protocol: layer2}`, denial: "invalid eip address format"},
		{name: "more addresses unparsable", eip: `spec: {address: 10.2.0.1, addresses: [10.2.0.2-x]}`, denial: `spec.addresses[0] "10.2.0.2-x": invalid eip address format`},
		{name: "layer2 without interface", eip: isDef + `spec: {address: 10.1.0.0/24, protocol: layer2}`, denial: denialInterface},
		{name: "vip without interface", eip: `spec: {address: 10.2.0.1, protocol: vip}`, denial: denialInterface},
		{name: "overlap", eip: isDef + `spec: {address: 10.1.0.6-10.1.0.7}`, denial: overlapA},
		{name: "overlap with the second address only", eip: `spec: {address: "2001:db8::7"}`, denial: overlapZ},
		{name: "overlap of the second address", eip: `spec: {address: 10.2.0.1, addresses: [10.1.0.8]}`, denial: overlapZ},
		{name: "overlap with one that is deleted", eip: `spec: {address: 10.9.0.0/16}`, denial: "eip address overlap with gone"},
		{name: "in a gap", eip: `spec: {address: 10.1.0.9}`},
		{name: "with a gap", eip: `spec: {address: 10.1.0.8-10.1.0.9, exclude: [10.1.0.8]}`},
		{name: "beside", eip: `spec: {address: 10.1.1.0/24}`},
		{name: "second default", eip: isDef + `spec: {address: 10.2.0.1}`, denial: denialDefault},
		{name: "second default in another case", eip: `metadata: {annotations: {eip.openelb.kubesphere.io/is-default-eip: "TRUE"}}, spec: {address: 10.2.0.1}`, denial: denialDefault},
		{name: "no default", eip: `metadata: {annotations: {eip.openelb.kubesphere.io/is-default-eip: "false"}}, spec: {address: 10.2.0.1}`},

		{name: "becomes default", old: `spec: {address: 10.0.0.0/24}`, eip: isDef + `spec: {address: 10.0.0.0/16}`, denial: denialDefault},
		{name: "was default", old: isDef + `spec: {address: 10.0.0.0/24}`, eip: `metadata: {annotations: {eip.openelb.kubesphere.io/is-default-eip: "True", a: b}}, spec: {address: 10.0.0.0/24}`},
		{name: "address changed", old: `spec: {address: 10.0.0.0/24}`, eip: `spec: {address: 10.0.0.0/25, protocol: vip}`, denial: denialAddress},
		{name: "interface removed", old: `spec: {address: 10.0.0.0/24, protocol: vip, interface: eth0}`, eip: `spec: {address: 10.0.0.0/24, protocol: vip}`, denial: denialInterface},
		{name: "becomes layer2", old: `spec: {address: 10.0.0.0/24}`, eip: `spec: {address: 10.0.0.0/24, protocol: layer2}`, denial: denialInterface},
		{name: "had no interface", old: `spec: {address: 10.0.0.0/24, protocol: layer2}`, eip: `spec: {address: 10.0.0.0/24, protocol: layer2, disable: true}`},
		{name: "anything else", old: `spec: {address: 10.0.0.0/24}`, eip: `metadata: {labels: {a: b}}, spec: {address: 10.0.0.0/24, disable: true, priority: 1, namespaces: [a], protocol: layer2, interface: eth1, quarantine: 1m0s}`},

		// Growing and shrinking.
		{name: "grows", old: `spec: {address: 10.0.0.0/24}`, eip: `spec: {address: 10.0.0.0/24, addresses: [10.2.0.0/24, "2001:db8:1::/64"]}`},
		{name: "grows into another", old: `spec: {address: 10.0.0.0/24}`, eip: `spec: {address: 10.0.0.0/24, addresses: [10.1.0.0/24]}`, denial: overlapA},
		{name: "grows by less exclusion into another", old: `spec: {address: 10.0.0.0/24, addresses: [10.1.0.8], exclude: [10.1.0.8]}`, eip: `spec: {address: 10.0.0.0/24, addresses: [10.1.0.8]}`, denial: overlapZ},
		{name: "overlapped before", old: `spec: {address: 10.0.0.0/24, addresses: [10.1.0.0/24]}`, eip: `spec: {address: 10.0.0.0/24, addresses: [10.1.0.0/24, 10.2.0.0/24], disable: true}`},
		{name: "overlaps less", old: `spec: {address: 10.0.0.0/24, addresses: [10.1.0.0/24, 10.1.0.6]}`, eip: `spec: {address: 10.0.0.0/24, addresses: [10.1.0.6]}`},
		{name: "shrinks", old: `spec: {address: 10.0.0.0/24}`, eip: `spec: {address: 10.0.0.0/24, exclude: [10.0.0.8-10.0.0.255]}`},
		{name: "shrinks in use", old: `spec: {address: 10.0.0.0/24}`, eip: `spec: {address: 10.0.0.0/24, exclude: [10.0.0.5-10.0.0.8]}`, denial: cut5 + ", and 1 more in use: keep it"},
		{name: "second family in use", old: `spec: {address: 10.0.0.0/24, addresses: ["2001:db8:9::5"]}`, eip: `spec: {address: 10.0.0.0/24}`, denial: "would cut 2001:db8:9::5 from the pool, which Service dev/api holds: keep it"},
		{name: "an address of another pool", old: `spec: {address: 10.0.0.0/24, addresses: [10.1.0.1]}`, eip: `spec: {address: 10.0.0.0/24}`},
		{name: "was cut before", old: `spec: {address: 10.0.0.0/24, exclude: [10.0.0.5]}`, eip: `spec: {address: 10.0.0.0/24, exclude: [10.0.0.5, 10.0.0.9]}`},
		{name: "spelled in another way", old: `spec: {address: 10.0.0.0/24, exclude: [10.0.0.8/29]}`, eip: `spec: {address: 10.0.0.0/24, exclude: [10.0.0.8-10.0.0.11, 10.0.0.12/30]}`},

		// What was wrong before stays possible, and is never made worse.
		{name: "unparsable before", old: `spec: {address: x}`, eip: `metadata: {finalizers: [a]}, spec: {address: x, disable: true}`},
		{name: "unparsable and changed", old: `spec: {address: 10.0.0.0/24, exclude: [x]}`, eip: `spec: {address: 10.0.0.0/24, exclude: [x, y]}`, denial: `spec.exclude[0] "x": invalid eip address format`},
		{name: "repaired", old: `spec: {address: 10.0.0.0/24, exclude: [x]}`, eip: `spec: {address: 10.0.0.0/24, exclude: [10.0.0.5]}`},
		{name: "repaired into another", old: `spec: {address: 10.1.0.0/24, exclude: [x]}`, eip: `spec: {address: 10.1.0.0/24}`, denial: overlapA},
		{
			name: "being deleted", old: `metadata: {deletionTimestamp: "2025-01-01T00:00:00Z", finalizers: [f]}, spec: {address: 10.0.0.0/24}`,
			eip: `metadata: {deletionTimestamp: "2025-01-01T00:00:00Z", annotations: {eip.openelb.kubesphere.io/is-default-eip: "true"}}, spec: {address: 10.0.0.0/25, protocol: vip, exclude: [10.0.0.5], addresses: [10.1.0.0/24, x]}`,
		},

		// Warnings.
		{name: "near a node", eip: `spec: {address: 192.168.0.100-192.168.0.200, protocol: layer2, interface: eth0}`},
		{name: "partly near a node", eip: `spec: {address: 192.168.9.1, addresses: [192.168.0.100], protocol: layer2, interface: eth0}`},
		{name: "near no node", eip: `spec: {address: 192.168.1.0/24, protocol: layer2, interface: eth0}`, warnings: []string{"same /24 as the pool's IPv4 addresses"}},
		{name: "near no node on purpose", eip: `spec: {address: 192.168.1.0/24, protocol: layer2, interface: eth0, allowOffSubnet: true}`},
		{name: "near no node by bgp", eip: `spec: {address: 192.168.1.0/24}`},
		{name: "near no node in IPv6", eip: `spec: {address: "fd00:2::/64", addresses: [192.168.0.77], protocol: layer2, interface: eth0}`, warnings: []string{"same /64 as the pool's IPv6 addresses"}},
		{name: "moved to layer2", old: `spec: {address: 192.168.1.0/24}`, eip: `spec: {address: 192.168.1.0/24, protocol: layer2, interface: eth0}`, warnings: []string{"nobody announces them"}},
		{name: "warned of before", old: `spec: {address: 192.168.1.0/24, protocol: layer2, interface: eth0}`, eip: `spec: {address: 192.168.1.0/24, protocol: layer2, interface: eth0, disable: true}`},
		{name: "nothing left", eip: `spec: {address: 10.2.0.0/24, exclude: [10.2.0.0/16]}`, warnings: []string{"no address"}},
		{name: "useless exclusion", eip: `spec: {address: 10.2.0.0/24, exclude: [10.2.0.1, 10.3.0.1]}`, warnings: []string{"spec.exclude[1] 10.3.0.1 has no effect"}},
		{name: "for nobody", eip: `spec: {address: 10.2.0.1, exclusive: true}`, warnings: []string{"spec.exclusive refuses every Service"}},
		{name: "default yes", eip: `metadata: {annotations: {eip.openelb.kubesphere.io/is-default-eip: "yes"}}, spec: {address: 10.2.0.1}`, warnings: []string{`"yes"`}},
		{name: "pasted status", eip: `spec: {address: 10.2.0.1}, status: {usage: 1, poolSize: 1, ready: true, used: {10.2.0.1: a/b}}`},
	} {
		t.Run(c.name, func(t *testing.T) {
			// The one that exists already is called pool.
			name, old := "new", (*v1alpha2.Eip)(nil)
			if c.old != "" {
				name, old = "pool", parse(t, "{"+c.old+"}")
				old.Name = name
			}
			eip := parse(t, "{"+c.eip+"}")
			eip.Name = name
			got := ReviewEip(old, eip, testCluster(t))
			if !strings.Contains(got.Denial, c.denial) || (c.denial == "") != (got.Denial == "") {
				t.Errorf("denied with %q, want %q", got.Denial, c.denial)
			}
			expectWarnings(t, got.Warnings, c.warnings)
		})
	}
}

// Before the caches are filled, rules about one object hold, and no others.
func TestReviewEipWithoutCluster(t *testing.T) {
	if got := ReviewEip(nil, parse(t, `{spec: {address: 10.0.0.1, protocol: layer2}}`), &Cluster{}); got.Denial != denialInterface {
		t.Errorf("got %+v", got)
	}
	if got := ReviewEip(nil, parse(t, `{spec: {address: 10.0.0.1, protocol: layer2, interface: eth0}}`), &Cluster{}); got.Denial != "" || len(got.Warnings) > 0 {
		t.Errorf("got %+v", got)
	}
}

// A default Eip that is being deleted makes room for the next.
func TestDefaultThatGoes(t *testing.T) {
	cluster := testCluster(t)
	cluster.Eips = slices.DeleteFunc(cluster.Eips, func(eip v1alpha2.Eip) bool { return eip.Name == "a" })
	next := parse(t, `{metadata: {name: new, annotations: {eip.openelb.kubesphere.io/is-default-eip: "true"}}, spec: {address: 10.2.0.1}}`)
	if got := ReviewEip(nil, next, cluster); got.Denial != "" {
		t.Errorf("denied with %q", got.Denial)
	}
}

func TestOverlapNamesTheFirst(t *testing.T) {
	cluster := testCluster(t)
	for range 2 {
		if got := ReviewEip(nil, parse(t, `{metadata: {name: new}, spec: {address: 10.0.0.0/8}}`), cluster); got.Denial != "eip address overlap with a" {
			t.Errorf("got %+v", got)
		}
		cluster.Eips[1], cluster.Eips[2] = cluster.Eips[2], cluster.Eips[1]
	}
}

func expectWarnings(t *testing.T, got, want []string) {
	t.Helper()
	if len(got) != len(want) {
		t.Errorf("warnings %q, want %q", got, want)
		return
	}
	for i := range want {
		if !strings.Contains(got[i], want[i]) {
			t.Errorf("warning %q, want %q", got[i], want[i])
		}
		if len(got[i]) > 256 {
			t.Errorf("the API server cuts a warning of %d bytes: %s", len(got[i]), got[i])
		}
	}
}
