package controller

import (
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/fairway-lb/fairway/api/v1alpha2"
	"github.com/fairway-lb/fairway/controller/ipam"
	"github.com/fairway-lb/fairway/controller/wish"
)

// errCrash is what a process sees that dies in the middle of a write.
var errCrash = errors.New("the process dies")

// random is a world in which everything happens in any order: users change
// Services and Eips, the cache lags behind by different spans for different
// Services, the queue is worked off in any order, and the controller dies
// between any two writes.
type random struct {
	*world
	rnd   *rand.Rand
	names []string
	has   map[string][]string // what each Service has by a request that is met
	log   []string
}

func TestRandomOperations(t *testing.T) {
	for seed := range uint64(60) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			w := newWorld(t,
				eipOf("p0", "10.0.0.1-10.0.0.3"),
				eipOf("p1", "10.1.0.1-10.1.0.2", func(eip *v1alpha2.Eip) {
					eip.Annotations = map[string]string{v1alpha2.AnnotationDefaultEip: "true"}
				}),
				eipOf("p2", "10.2.0.1-10.2.0.2", func(eip *v1alpha2.Eip) {
					eip.Spec.Addresses = []v1alpha2.PoolAddress{"2001:db8::1-2001:db8::2"}
				}))
			r := &random{world: w, rnd: rand.New(rand.NewPCG(seed, 3)), has: map[string][]string{}}
			for i := range 9 {
				r.names = append(r.names, fmt.Sprintf("s%d", i))
			}
			w.stored = r.tell
			for range 400 {
				r.step()
				r.check()
			}
			r.calm()
		})
	}
}

func (r *random) step() {
	name := r.names[r.rnd.IntN(len(r.names))]
	svc := r.at(name)
	switch n := r.rnd.IntN(20); {
	case n < 4 && svc == nil:
		r.note("create %s", name)
		delete(r.has, name)
		r.store(loadBalancer(named(name, types.UID(fmt.Sprint(r.version))), optIn, r.request, func(svc *corev1.Service) {
			svc.CreationTimestamp = metav1.NewTime(r.clock)
		}))
	case n < 6 && svc != nil:
		r.note("change %s", name)
		delete(r.has, name)
		r.edit(name, r.request)
	case n < 7 && svc != nil:
		r.note("opt %s out", name)
		delete(r.has, name)
		r.edit(name, optOut)
	case n < 8 && svc != nil:
		r.note("delete %s", name)
		delete(r.has, name)
		r.edit(name, deleted)
	case n < 9 && svc != nil:
		r.note("strip %s", name)
		what := r.rnd.IntN(3)
		r.edit(name, func(svc *corev1.Service) {
			if what != 0 {
				svc.Labels = nil
			}
			if what != 1 {
				svc.Finalizers = nil
			}
		})
	case n < 10:
		eip := r.eips[fmt.Sprintf("p%d", r.rnd.IntN(3))]
		eip.Spec.Disable = !eip.Spec.Disable
		r.note("disable %s: %t", eip.Name, eip.Spec.Disable)
		r.queued = append(r.queued, requestForEip(eip.Name))
	case n < 11:
		r.note("a new leader")
		r.lead()
		r.queued = nil
		for _, name := range r.names {
			r.queued = append(r.queued, requestForService(ipam.ServiceKey{Namespace: "ns", Name: name}))
		}
	case n < 12:
		r.crashAfter, r.crashTaken = 1+r.rnd.IntN(3), r.rnd.IntN(2) == 0
		r.note("it dies after %d writes", r.crashAfter)
	case n < 14:
		r.note("the cache catches up with all")
		r.catchUpWithAll()
	default:
		r.catchUpWith(name)
		r.work()
	}
	r.clock = r.clock.Add(time.Second)
}

// request makes a Service ask for something.
func (r *random) request(svc *corev1.Service) {
	svc.Spec.Ports = []corev1.ServicePort{{Protocol: corev1.ProtocolTCP, Port: 80}} // nobody can share
	svc.Annotations = map[string]string{v1alpha2.AnnotationLoadBalancer: v1alpha2.LoadBalancerValue}
	if pools := []string{"", "", "p0", "p1", "p2", "p1,p0", "p9"}[r.rnd.IntN(7)]; pools != "" {
		svc.Annotations[v1alpha2.AnnotationPool] = pools
	}
	if r.rnd.IntN(4) == 0 {
		svc.Annotations[v1alpha2.AnnotationAddress] = fmt.Sprintf("10.%d.0.%d", r.rnd.IntN(3), 1+r.rnd.IntN(3))
	}
	policy := []corev1.IPFamilyPolicy{corev1.IPFamilyPolicySingleStack, corev1.IPFamilyPolicyPreferDualStack, corev1.IPFamilyPolicyRequireDualStack}[r.rnd.IntN(3)]
	svc.Spec.IPFamilyPolicy = &policy
	svc.Spec.IPFamilies = []corev1.IPFamily{corev1.IPv4Protocol}
	if policy != corev1.IPFamilyPolicySingleStack {
		svc.Spec.IPFamilies = append(svc.Spec.IPFamilies, corev1.IPv6Protocol)
	}
}

// work looks at something that is queued; a process that dies is followed by
// another one, which begins with everything.
func (r *random) work() {
	if len(r.queued) == 0 {
		return
	}
	i := r.rnd.IntN(len(r.queued))
	req := r.queued[i]
	r.queued = slices.Delete(r.queued, i, i+1)
	r.note("look at %s %s", req.kind, req.Name)
	result, err := r.r.Reconcile(r.t.Context(), req)
	switch {
	case errors.Is(err, errCrash):
		r.note("it died")
		r.crashAfter = 0
		r.lead()
		for _, name := range r.names {
			r.queued = append(r.queued, requestForService(ipam.ServiceKey{Namespace: "ns", Name: name}))
		}
	case err != nil:
		r.fail("looking at %s: %v", req.Name, err)
	case result.RequeueAfter > 0:
		r.queued = append(r.queued, req)
	case req.kind == serviceRequest:
		r.remember(req)
	}
}

// remember notes what a Service has that was just looked at, if that was its
// newest version and its request is met.
func (r *random) remember(req request) {
	svc, seen := r.at(req.Name), r.cached[req.NamespacedName]
	if svc == nil || seen == nil || !reflect.DeepEqual(svc.Annotations, seen.Annotations) || !reflect.DeepEqual(svc.Spec, seen.Spec) {
		return
	}
	condition := meta.FindStatusCondition(svc.Status.Conditions, v1alpha2.ConditionAllocated)
	if condition != nil && condition.Status == metav1.ConditionTrue && wanted(svc, false) {
		r.has[req.Name] = shown(svc)
	}
}

// check looks at what the API server has.
func (r *random) check() {
	owners := map[string]string{}
	for _, name := range r.names {
		svc := r.at(name)
		if svc == nil {
			continue
		}
		ips := shown(svc)
		for _, ip := range ips {
			if other, taken := owners[ip]; taken {
				r.fail("%s is shown by %s and %s", ip, other, name)
			}
			owners[ip] = name
		}
		if len(ips) > 0 && !marked(svc) {
			stripped := slices.ContainsFunc(r.log, func(line string) bool { return line == "strip "+name })
			if !stripped {
				r.fail("%s shows %v and is not marked", name, ips)
			}
		}
		for _, ip := range r.has[name] {
			if wanted(svc, false) && !slices.Contains(ips, ip) {
				r.fail("%s had %v, and shows %v", name, r.has[name], ips)
			}
		}
	}
}

// calm lets the controller finish with what there is. Then nobody waits for an
// address that is free, and every deletion is done.
func (r *random) calm() {
	r.crashAfter = 0
	for name := range maps.Keys(r.eips) {
		r.eips[name].Spec.Disable = false
		r.queued = append(r.queued, requestForEip(name))
	}
	for range 2000 {
		if len(r.queued) == 0 {
			break
		}
		r.clock = r.clock.Add(time.Second)
		r.catchUpWithAll()
		r.work()
		r.check()
	}
	if len(r.queued) > 0 {
		r.fail("it does not come to rest: %v", r.queued)
	}
	for _, name := range r.names {
		svc := r.at(name)
		switch {
		case svc == nil:
		case svc.DeletionTimestamp != nil:
			r.fail("the deletion of %s does not finish: %v", name, svc.Finalizers)
		case !wanted(svc, false) && (marked(svc) || hasCondition(svc) || len(shown(svc)) > 0):
			r.fail("%s asks for nothing and has %v", name, shown(svc))
		case wanted(svc, false):
			r.nothingHelps(svc)
		}
	}
	for name := range r.eips {
		r.clock = r.clock.Add(statusInterval)
		r.lookAt(requestForEip(name))
		for addr, services := range r.eips[name].Status.Used {
			_, service, _ := strings.Cut(services, "/")
			if svc := r.at(service); svc == nil || !slices.Contains(shown(svc), addr) {
				r.fail("Eip %s says that %s is used by %s", name, addr, services)
			}
		}
	}
}

// nothingHelps checks that a Service has what a new decision would give it.
func (r *random) nothingHelps(svc *corev1.Service) {
	asked, refusal := wish.Of(svc, nil, r.r.hasPool)
	before, _ := r.r.ipam.Lookup(wish.KeyOf(svc))
	if refusal != nil {
		return
	}
	if after := r.r.ipam.Assign(asked); !slices.Equal(after.Held, before) {
		r.fail("%s has %v, and nobody told it that it could have %v", svc.Name, before, after.Held)
	}
	for _, held := range before {
		if !r.r.ipam.Contains(held.Pool, held.Address) { // no pool changes its addresses here
			r.fail("%s is said to have %s from Eip %s, which has it not", svc.Name, held.Address, held.Pool)
		}
		if !slices.Contains(shown(svc), held.Address.String()) {
			r.fail("%s shows %v and holds %v", svc.Name, shown(svc), before)
		}
	}
}

// tell notes what the API server has of a Service now.
func (r *random) tell(svc *corev1.Service) {
	r.note("  %s: version %s asks with %v, shows %v, has labels %v, finalizers %v", svc.Name, svc.ResourceVersion, svc.Annotations, shown(svc), svc.Labels, svc.Finalizers)
}

func (r *random) note(format string, args ...any) {
	r.log = append(r.log, fmt.Sprintf(format, args...))
}

func (r *random) fail(format string, args ...any) {
	r.t.Helper()
	r.t.Fatalf(format+"\nafter:\n%s", append(args, strings.Join(r.log[max(0, len(r.log)-120):], "\n"))...)
}

// catchUpWith lets the cache show what the API server has of one Service.
func (r *random) catchUpWith(name string) {
	key := types.NamespacedName{Namespace: "ns", Name: name}
	before, now := r.cached[key], r.live[key]
	delete(r.cached, key)
	if now != nil {
		r.cached[key] = now.DeepCopy()
	}
	if (before == nil) != (now == nil) || (now != nil && before.ResourceVersion != now.ResourceVersion) {
		r.queued = append(r.queued, requestForService(ipam.ServiceKey(key)))
	}
}

func (r *random) catchUpWithAll() {
	for _, name := range r.names {
		r.catchUpWith(name)
	}
}
