package v1alpha2

// Keys on Services. Those without network.kubesphere.io are OpenELB's own,
// spelled as its users' manifests spell them.
const (
	// AnnotationLoadBalancer on a Service of type LoadBalancer opts it in
	// when its value is LoadBalancerValue.
	AnnotationLoadBalancer = "lb.kubesphere.io/v1alpha1"
	// LoadBalancerValue is the one value of AnnotationLoadBalancer that
	// opts a Service in.
	LoadBalancerValue = "openelb"
	// LoadBalancerClass in a Service's spec.loadBalancerClass opts it in as
	// AnnotationLoadBalancer does. A Service of another class is never touched.
	LoadBalancerClass = "network.kubesphere.io/eip"

	// AnnotationPool on a Service names the Eip that its address is to come
	// from, or several separated by commas, the preferred first. LabelPool,
	// the same key as a label, is written by the controller and names the
	// Eip that the Service's first address did come from.
	AnnotationPool = "eip.openelb.kubesphere.io/v1alpha2"
	LabelPool      = AnnotationPool
	// AnnotationAddress on a Service asks for one address, or for one of each
	// family separated by a comma. It wins over spec.loadBalancerIP.
	AnnotationAddress = "eip.openelb.kubesphere.io/v1alpha1"
	// AnnotationProtocol on a Service (bgp, layer2 or vip) holds the choice
	// among the Eips that serve it to those of that protocol. It has no
	// effect on a Service that names an Eip or an address.
	AnnotationProtocol = "protocol.openelb.kubesphere.io/v1alpha1"
	// AnnotationShare on a Service is a key of the owner's choice: Services
	// that carry the same may have one address together.
	AnnotationShare = "network.kubesphere.io/allow-shared-ip"

	// AnnotationScheduler on a Service names its IPVS scheduler, as wlc.
	AnnotationScheduler = "network.kubesphere.io/scheduler"
	// AnnotationHash on a Service (source or source-port) has the choice of
	// an endpoint follow from the client rather than from chance.
	AnnotationHash = "network.kubesphere.io/hash"
	// LabelServiceProxyName on a Service leaves it to the service proxy that it
	// names (KEP-2447): kube-proxy and Fairway's dataplane pass it over.
	LabelServiceProxyName = "service.kubernetes.io/service-proxy-name"
	// AnnotationWeights on a Service says how many of the new connections
	// its endpoints get, compared to each other, as in
	// worker-1=3,10.244.1.7=0,*=2: by an endpoint's address, else by the name
	// of its node, else by * for all others, from 0 (none) to 65535. It is 1
	// where nothing is said. IPVS alone uses it, with a scheduler that knows
	// weights; any knows 0.
	AnnotationWeights = "network.kubesphere.io/weights"

	// ConditionAllocated is the type of the condition in a Service's status
	// that says whether it has the addresses that it asks for.
	ConditionAllocated = "network.kubesphere.io/AddressAllocated"
	// ConditionTrafficPolicyConflict is the type of the condition in a
	// Service's status that is True while the Service shares an address with
	// one whose externalTrafficPolicy does not go with its own. It is not
	// there otherwise.
	ConditionTrafficPolicyConflict = "network.kubesphere.io/TrafficPolicyConflict"

	// FinalizerService keeps a Service that holds an address until the
	// address is returned to its Eip.
	FinalizerService = "finalizer.lb.kubesphere.io/v1alpha1"
)

// Keys of other generations and implementations, read where Fairway's own are
// absent, so that Services keep their addresses when their cluster changes to
// Fairway. None is ever written.
const (
	// The keys of OpenELB up to v0.4.3, which was called Porter.
	LegacyLoadBalancerValue  = "porter"
	LegacyAnnotationPool     = "eip.porter.kubesphere.io/v1alpha2"
	LegacyAnnotationAddress  = "eip.porter.kubesphere.io/v1alpha1"
	LegacyAnnotationProtocol = "protocol.porter.kubesphere.io/v1alpha1"

	// MetalLB's keys follow one of its two prefixes.
	MetalLBPrefix           = "metallb.io/"
	MetalLBDeprecatedPrefix = "metallb.universe.tf/"
	MetalLBPool             = "address-pool"
	MetalLBAddresses        = "loadBalancerIPs"
	MetalLBShare            = "allow-shared-ip"
	MetalLBAllocatedFrom    = "ip-allocated-from-pool"
)

// Keys on Eips.
const (
	// AnnotationDefaultEip marks the Eip that serves Services which name no
	// pool and match no other. Its value is a boolean; any spelling of true
	// that differs in case only counts.
	AnnotationDefaultEip = "eip.openelb.kubesphere.io/is-default-eip"
	// FinalizerEip keeps an Eip until no Service holds an address of it.
	FinalizerEip = "finalizer.ipam.kubesphere.io/v1alpha1"
	// AnnotationForceDelete, when it is true on an Eip that is being deleted,
	// has its Services move to other Eips, or go without an address.
	AnnotationForceDelete = "network.kubesphere.io/force-delete"
)

// LabelRack on a Node names its rack, for BgpConf's asPerRack; LabelCNI on a
// BgpConf or BgpPeer leaves it to the network plugin that its value names.
const (
	LabelRack = "openelb.kubesphere.io/rack"
	LabelCNI  = "openelb.kubesphere.io/cni"
)

// BgpConfName is the name of the one BgpConf that is honoured.
const BgpConfName = "default"
