package admission

import (
	"context"
	"fmt"
	"time"

	"github.com/go-logr/logr"
	admissionv1 "k8s.io/api/admission/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/webhook/admission"

	"github.com/fairway-lb/fairway/api/v1alpha1"
	"github.com/fairway-lb/fairway/api/v1alpha2"
)

// bgpTimeout is half of what the API server waits for an answer.
const bgpTimeout = time.Second

// handlers answer the API server with what the reviews say. Whatever cannot be
// read, or judged yet, is let in.
type handlers struct {
	decoder   admission.Decoder
	byDefault bool
	cluster   func(context.Context) (*Cluster, error)
	// services returns those that a change of an Eip may concern; there may be
	// thousands, so they are asked for only when one is judged.
	services func(context.Context) ([]corev1.Service, error)
	// bgp asks the API server itself, for a new object only: the BgpConf of the
	// same file may not be in a cache yet.
	bgp func(context.Context) (*BGP, error)
	log logr.Logger
}

func (h *handlers) eip(ctx context.Context, req admission.Request) admission.Response {
	eip, err := decoded[v1alpha2.Eip](h.decoder, req.Object)
	if err != nil || eip == nil {
		return h.letIn(req, err)
	}
	old, err := decoded[v1alpha2.Eip](h.decoder, req.OldObject)
	if err != nil {
		return h.letIn(req, err)
	}
	cluster, err := h.cluster(ctx)
	if err != nil {
		return h.letIn(req, err)
	}
	if cluster == nil {
		cluster = &Cluster{}
	} else if old != nil {
		if cluster.Services, err = h.services(ctx); err != nil {
			return h.letIn(req, err)
		}
	}
	if old == nil && protocolOf(eip) == v1alpha2.ProtocolBGP {
		cluster.BGP = h.knownBGP(ctx)
	}
	verdict := ReviewEip(old, eip, cluster)
	if verdict.Denial == "" {
		return admission.Allowed("").WithWarnings(verdict.Warnings...)
	}
	if verdict.Denial == denialInterface && req.RequestKind != nil && req.RequestKind.Version == v1alpha1.GroupVersion.Version {
		verdict.Warnings = append(verdict.Warnings, "v1alpha1 has no field for the interface: write the Eip in "+v1alpha2.GroupVersion.String())
	}
	return admission.Denied(verdict.Denial).WithWarnings(verdict.Warnings...)
}

func (h *handlers) service(ctx context.Context, req admission.Request) admission.Response {
	svc, err := decoded[corev1.Service](h.decoder, req.Object)
	if err != nil || svc == nil {
		return h.letIn(req, err)
	}
	cluster, err := h.cluster(ctx)
	if err != nil {
		return h.letIn(req, err)
	}
	return admission.Allowed("").WithWarnings(ReviewService(svc, h.byDefault, cluster)...)
}

func (h *handlers) bgpConf(_ context.Context, req admission.Request) admission.Response {
	conf, err := decoded[v1alpha2.BgpConf](h.decoder, req.Object)
	if err != nil || conf == nil {
		return h.letIn(req, err)
	}
	return admission.Allowed("").WithWarnings(ReviewBgpConf(conf)...)
}

func (h *handlers) bgpPeer(ctx context.Context, req admission.Request) admission.Response {
	peer, err := decoded[v1alpha2.BgpPeer](h.decoder, req.Object)
	if err != nil || peer == nil {
		return h.letIn(req, err)
	}
	old, err := decoded[v1alpha2.BgpPeer](h.decoder, req.OldObject)
	if err != nil {
		return h.letIn(req, err)
	}
	var bgp *BGP
	if old == nil {
		bgp = h.knownBGP(ctx)
	}
	return admission.Allowed("").WithWarnings(ReviewBgpPeer(old, peer, bgp)...)
}

// knownBGP returns nil if the API server does not say soon what there is: all
// else that is to be said is said in time.
func (h *handlers) knownBGP(ctx context.Context) *BGP {
	ctx, cancel := context.WithTimeout(ctx, bgpTimeout)
	defer cancel()
	bgp, err := h.bgp(ctx)
	if err != nil {
		h.log.Error(err, "Admission cannot tell whether BGP is configured")
		return nil
	}
	return bgp
}

func (h *handlers) letIn(req admission.Request, err error) admission.Response {
	if err != nil && req.Operation != admissionv1.Delete {
		h.log.Error(err, "Let an object in without a look at it", "kind", req.Kind.Kind, "namespace", req.Namespace, "name", req.Name)
	}
	return admission.Allowed("")
}

// decoded returns the object, nil if there is none.
func decoded[T any](decoder admission.Decoder, raw runtime.RawExtension) (*T, error) {
	if len(raw.Raw) == 0 {
		return nil, nil
	}
	object := new(T)
	into, ok := any(object).(runtime.Object)
	if !ok {
		return nil, fmt.Errorf("decoding %T: not an object", object)
	}
	if err := decoder.DecodeRaw(raw, into); err != nil {
		return nil, fmt.Errorf("decoding %T: %w", object, err)
	}
	return object, nil
}
