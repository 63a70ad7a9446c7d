package e2e

import (
	"regexp"
	"slices"
	"strings"
	"testing"
)

// cidrRule is what drops the addresses of a range of cluster IPs that no Service
// has, by dataplane, as nft lists it.
var cidrRule = map[string]*regexp.Regexp{
	"nftables": regexp.MustCompile(`(?s)set service-cidrs \{.*?\}`),
	"iptables": regexp.MustCompile(`(?s)chain FAIRWAY-VERDICTS \{.*?\}`),
}

var cidr4 = regexp.MustCompile(`10\.\d+\.0\.0/16`)

// A range of cluster IPs is added, and given up, while speakers run: the rules of
// the nodes follow.
func TestServiceCIDRComesAndGoes(t *testing.T) {
	for _, dataplane := range dataplanes {
		t.Run(dataplane, func(t *testing.T) {
			c := newForwarding(t, 1, dataplane).startFairway()
			follows := func(want ...string) {
				t.Helper()
				c.eventually("the node's rules follow the ServiceCIDRs", func() string {
					rules := c.inside(c.Node("n1").Namespace, "nft", "list", "ruleset")
					got := cidr4.FindAllString(strings.Join(cidrRule[dataplane].FindAllString(rules, -1), "\n"), -1)
					slices.Sort(got)
					if !slices.Equal(got, want) {
						return "they are of " + strings.Join(got, ", ")
					}
					return ""
				})
			}
			follows("10.96.0.0/16")
			c.apply(`
apiVersion: networking.k8s.io/v1
kind: ServiceCIDR
metadata:
  name: more
spec:
  cidrs: [10.99.0.0/16]
`)
			follows("10.96.0.0/16", "10.99.0.0/16")
			c.kubectl("delete", "servicecidr", "more")
			follows("10.96.0.0/16")
		})
	}
}
