package e2e

import "fmt"

// bgpConf is the BgpConf default of AS 50000 as a document; more are further
// lines of its spec.
func bgpConf(more ...string) string { return bgpConfOf(nodesAS, more...) }

// bgpConfOf is bgpConf of another AS.
func bgpConfOf(as uint32, more ...string) string {
	return document("BgpConf", "default", append([]string{fmt.Sprintf("as: %d", as)}, more...)...)
}

// bgpPeer is a BgpPeer as a document; more are further lines of its spec, of
// spec.conf if they are indented.
func bgpPeer(name, address string, as int, more ...string) string {
	return document("BgpPeer", name, append([]string{"conf:", fmt.Sprintf("  peerAs: %d", as), "  neighborAddress: " + address}, more...)...)
}

// twoFamilies are the lines of a BgpPeer whose session carries routes of IPv4 and
// IPv6.
func twoFamilies() []string {
	return []string{"afiSafis:", "- config: {enabled: true, family: {afi: AFI_IP, safi: SAFI_UNICAST}}",
		"- config: {enabled: true, family: {afi: AFI_IP6, safi: SAFI_UNICAST}}"}
}

// bgpEip is a pool without a protocol as a document; more are further lines of
// its spec.
func bgpEip(name, address string, more ...string) string {
	return document("Eip", name, append([]string{"address: " + address}, more...)...)
}

// bgpService is a Service that asks for an address of a pool; more are further
// lines of its spec.
func bgpService(name, app, pool string, more ...string) string {
	return with(loadBalancer(name, app, fromPool(pool)), more...)
}

// policyLocal is the line of a Service's spec that keeps traffic on the node
// where it arrives.
const policyLocal = "externalTrafficPolicy: Local"
