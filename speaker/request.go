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
	// everything: nodes, pools or members changed.
	everything
	// nodeLinks: this node's links, addresses or routes changed. Few of their
	// changes matter.
	nodeLinks
	// heldAddresses: the addresses that this node really holds changed.
	heldAddresses
)
