package v1alpha2

// Keys on Services. All but LoadBalancerClass are OpenELB's own, spelled as
// its users' manifests spell them.
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
	// from. LabelPool, the same key as a label, is written by the controller
	// and names the Eip that the Service's address did come from.
	AnnotationPool = "eip.openelb.kubesphere.io/v1alpha2"
	LabelPool      = AnnotationPool
	// AnnotationAddress on a Service asks for one address. It wins over
	// spec.loadBalancerIP.
	AnnotationAddress = "eip.openelb.kubesphere.io/v1alpha1"
	// AnnotationProtocol on a Service (bgp, layer2 or vip) was required up
	// to OpenELB v0.5 and is in many manifests. It has no effect: the Eip
	// decides the protocol.
	AnnotationProtocol = "protocol.openelb.kubesphere.io/v1alpha1"

	// FinalizerService keeps a Service that holds an address until the
	// address is returned to its Eip.
	FinalizerService = "finalizer.lb.kubesphere.io/v1alpha1"
)

// Keys on Eips.
const (
	// AnnotationDefaultEip marks the Eip that serves Services which name no
	// pool and match no other. Its value is a boolean; any spelling of true
	// that differs in case only counts.
	AnnotationDefaultEip = "eip.openelb.kubesphere.io/is-default-eip"
	// FinalizerEip keeps an Eip until no Service holds an address of it.
	FinalizerEip = "finalizer.ipam.kubesphere.io/v1alpha1"
)

// BgpConfName is the name of the one BgpConf that is honoured.
const BgpConfName = "default"
