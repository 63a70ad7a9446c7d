package controller

import (
	"k8s.io/apimachinery/pkg/types"

	"github.com/fairway-lb/fairway/controller/ipam"
)

// request is what a worker is asked to look at again. Equal requests that
// wait are one.
type request struct {
	kind requestKind
	types.NamespacedName
}

type requestKind string

const (
	serviceRequest   requestKind = "Service"
	eipRequest       requestKind = "Eip"
	namespaceRequest requestKind = "Namespace" // its labels, which pools select by
	gossipKeyRequest requestKind = "Secret"    // the one with the speakers' key

	// These are for the worker that tidies up after the speakers.
	bgpConfRequest requestKind = "BgpConf"
	bgpPeerRequest requestKind = "BgpPeer"
)

func requestForService(key ipam.ServiceKey) request {
	return request{kind: serviceRequest, NamespacedName: types.NamespacedName(key)}
}

func requestForEip(name string) request {
	return request{kind: eipRequest, NamespacedName: types.NamespacedName{Name: name}}
}
