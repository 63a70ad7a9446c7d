package dataplanetest

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"

	"github.com/fairway-lb/fairway/dataplane/service"
)

// The hosts of the table.
const (
	local, otherLocal = "pod1", "pod2"
	remote            = "remote"
	both              = local + " " + remote
)

// decisions are what becomes of a connection, by endpoints and by the policy
// that applies: which hosts may answer, or none. What kube-proxy does has been
// measured.
var decisions = []struct {
	what                       string
	endpoints                  map[string]Condition
	policyCluster, policyLocal string
}{
	{"Lr+Rr", map[string]Condition{local: Ready, remote: Ready}, both, local},
	{"Lr", map[string]Condition{local: Ready}, local, local},
	{"Rr only", map[string]Condition{remote: Ready}, remote, Drop},
	{"Lst+Rr", map[string]Condition{local: ServingTerminating, remote: Ready}, remote, local},
	{"Lst+Rst", map[string]Condition{local: ServingTerminating, remote: ServingTerminating}, both, local},
	{"Rst only", map[string]Condition{remote: ServingTerminating}, remote, Drop},
	{"Lr+Lst+Rr", map[string]Condition{local: Ready, otherLocal: ServingTerminating, remote: Ready}, both, local},
	{"only nt", map[string]Condition{local: Terminating, remote: Terminating}, Reject, Reject},
	{"only nr", map[string]Condition{local: NotReady, remote: NotReady}, Reject, Reject},
	{"none", nil, Reject, Reject},
}

// clients are the sources of the table: which policy applies to them, and whom
// the endpoint sees. A cluster IP goes by internalTrafficPolicy, all else by
// externalTrafficPolicy, of which those from within the node know Cluster only.
var clients = []struct {
	name                       string
	withinNode                 bool
	clusterIP                  Source
	policyCluster, policyLocal Source // at other frontends
}{
	{"pod3", true, Own, Translated, Own},
	{"node", true, Translated, Translated, Translated},
	{"client", false, Translated, Translated, Own},
	{"remote", false, Translated, Translated, Own},
}

// testDecisions goes from every client to every kind of frontend, with every
// set of endpoints and every pair of policies.
func testDecisions(t *testing.T, subject Subject) {
	l := subject.Lab(t)
	b := subject.Start(t, WithPods)
	s := service.NewState(ThisNode)
	policies := []service.Policy{service.Cluster, service.Local}
	var cells []Cell
	number := 0
	for _, row := range decisions {
		decide := func(p service.Policy) string {
			if p == service.Local {
				return row.policyLocal
			}
			return row.policyCluster
		}
		for _, internal := range policies {
			for _, external := range policies {
				number++
				f := Frontends{number}
				s.SetService(NewService(f, func(spec *corev1.ServiceSpec) {
					spec.InternalTrafficPolicy = new(corev1.ServiceInternalTrafficPolicy(internal.String()))
					spec.ExternalTrafficPolicy = corev1.ServiceExternalTrafficPolicy(external.String())
				}))
				var endpoints []Endpoint
				for host, is := range row.endpoints {
					endpoints = append(endpoints, Endpoint{l.Host(host), is})
				}
				SetEndpoints(s, f, endpoints...)
				what := fmt.Sprintf("%s, iTP %s, eTP %s", row.what, internal, external)
				for _, c := range clients {
					applies, source := external, c.policyCluster
					if external == service.Local {
						source = c.policyLocal
						if c.withinNode {
							applies = service.Cluster
						}
					}
					for family := range 2 {
						for _, protocol := range []service.Protocol{service.TCP, service.UDP} {
							add := func(addr netip.Addr, port uint16, want string, as Source) {
								cells = append(cells, Cell{what, l.Host(c.name), protocol, netip.AddrPortFrom(addr, port), strings.Fields(want), as})
							}
							add(f.ClusterIP()[family], 80, decide(internal), c.clusterIP)
							add(f.VIP()[family], 80, decide(applies), source)
							add(f.ExternalIP()[family], 80, decide(applies), source)
							add(l.Node.Addrs[family], f.NodePort(), decide(applies), source)
						}
					}
				}
			}
		}
	}
	Sync(t, b, s)
	l.Check(cells)
	t.Logf("%d cells", len(cells))
}
