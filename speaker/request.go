package speaker

import "k8s.io/apimachinery/pkg/types"

// request is what the speaker's one worker is asked to look at again. Equal
// requests that wait are one.
type request struct {
	kind requestKind
	// service is set for oneService.
	service types.NamespacedName
}

type requestKind int

const (
	// oneService: the Service or its EndpointSlices changed.
	oneService requestKind = iota
	// everything: nodes, pools, members or the configuration of BGP changed.
	everything
	// nodeLinks: this node's links, addresses or routes changed. Few of their
	// changes matter.
	nodeLinks
	// heldAddresses: the addresses that this node really holds changed.
	heldAddresses
	// routerConfig: what only the router depends on changed, or it may be made
	// as asked by now.
	routerConfig
	// reportsDue: some Services may have gone unreached for too long.
	reportsDue
	// shutdown: the process is about to end, and the node is to drain.
	shutdown
)
