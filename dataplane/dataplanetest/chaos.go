package dataplanetest

import (
	"math/rand/v2"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/fairway-lb/fairway/api/v1alpha2"
	"github.com/fairway-lb/fairway/dataplane/service"
)

// chaos changes Services at random.
type chaos struct {
	lab    *Lab
	state  *service.State
	random *rand.Rand
	noHash bool
}

func (subject Subject) newChaos(l *Lab, s *service.State, seed uint64) *chaos {
	return &chaos{l, s, rand.New(rand.NewPCG(seed, 2)), subject.NoHash}
}

func (c *chaos) coin() bool { return c.random.IntN(2) == 0 }

// strike changes one of some Services in any way.
func (c *chaos) strike(first, count int) {
	f := Frontends{first + c.random.IntN(count)}
	switch c.random.IntN(8) {
	case 0:
		c.state.DeleteService(types.NamespacedName{Namespace: "default", Name: f.Name()})
	case 1, 2, 3:
		svc := NewService(f, c.edit)
		if !c.noHash && f.Number == first {
			Annotate(svc, v1alpha2.AnnotationHash, []string{"", "source", "source-port"}[c.random.IntN(3)])
			svc.Spec.Ports = svc.Spec.Ports[:1] // tables are long
		}
		c.state.SetService(svc)
	default:
		conditions := []Condition{Ready, Ready, Ready, NotReady, ServingTerminating, Terminating}
		var endpoints []Endpoint
		for _, h := range []*Host{c.lab.Pod1, c.lab.Pod2, c.lab.Pod3, c.lab.Remote} {
			if c.coin() {
				endpoints = append(endpoints, Endpoint{h, conditions[c.random.IntN(len(conditions))]})
			}
		}
		SetEndpoints(c.state, f, endpoints...)
	}
}

func (c *chaos) edit(spec *corev1.ServiceSpec) {
	if c.coin() {
		PolicyLocal(spec)
	}
	if c.coin() {
		spec.InternalTrafficPolicy = new(corev1.ServiceInternalTrafficPolicyLocal)
	}
	if c.coin() {
		Sticky(time.Duration(1+c.random.IntN(3)) * time.Second)(spec)
	}
	if c.coin() {
		spec.LoadBalancerSourceRanges = []string{"192.168.0.0/16", "172.16.0.0/24", "fd00:16::/64"}[:c.random.IntN(4)]
	}
	if c.coin() {
		spec.ExternalIPs = spec.ExternalIPs[:1]
	}
	if c.coin() {
		WithSCTP(spec)
	}
	if c.coin() {
		spec.Ports = spec.Ports[:1]
	}
}

// strikeProbed changes a Service so that all its clients find somebody.
func (c *chaos) strikeProbed(f Frontends) {
	locals := []Endpoint{OnPod1(c.lab), OnPod2(c.lab)}
	endpoints := [][]Endpoint{locals, locals[:1], locals[1:]}[c.random.IntN(3)]
	if c.coin() {
		endpoints = append(endpoints[:len(endpoints):len(endpoints)], OnRemote(c.lab))
	}
	edit := func(spec *corev1.ServiceSpec) {
		if c.coin() {
			PolicyLocal(spec)
		}
		if c.coin() {
			spec.InternalTrafficPolicy = new(corev1.ServiceInternalTrafficPolicyLocal)
		}
		if c.coin() {
			Sticky(time.Hour)(spec)
		}
	}
	if c.random.IntN(4) == 0 {
		// Without policies, the remote one alone will do.
		endpoints, edit = []Endpoint{OnRemote(c.lab)}, nil
	}
	c.state.SetService(NewService(f, edit))
	SetEndpoints(c.state, f, endpoints...)
}
