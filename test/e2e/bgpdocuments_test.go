package e2e

import "fmt"

// bgpConf is the BgpConf default of AS 50000 as a document; more are further
// lines of its spec.
func bgpConf(more ...string) string {
	return fmt.Sprintf(`---
apiVersion: network.kubesphere.io/v1alpha2
kind: BgpConf
metadata:
  name: default
spec:
  as: %d
%s`, nodesAS, indent("  ", more))
}

// bgpPeer is a BgpPeer as a document; more are further lines of its spec.
func bgpPeer(name, address string, as int, more ...string) string {
	return fmt.Sprintf(`---
apiVersion: network.kubesphere.io/v1alpha2
kind: BgpPeer
metadata:
  name: %s
spec:
  conf:
    peerAs: %d
    neighborAddress: %s
%s`, name, as, address, indent("  ", more))
}

// bgpEip is a pool without a protocol as a document; more are further lines of
// its spec.
func bgpEip(name, address string, more ...string) string {
	return fmt.Sprintf(`---
apiVersion: network.kubesphere.io/v1alpha2
kind: Eip
metadata:
  name: %s
spec:
  address: %s
%s`, name, address, indent("  ", more))
}

// bgpService is a Service that asks for an address of a pool; more are further
// lines of its spec.
func bgpService(name, app, pool string, more ...string) string {
	return with(loadBalancer(name, app, fromPool(pool)), more...)
}

// policyLocal is the line of a Service's spec that keeps traffic on the node
// where it arrives.
const policyLocal = "externalTrafficPolicy: Local"
