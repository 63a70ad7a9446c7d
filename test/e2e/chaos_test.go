package e2e

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/fairway-lb/fairway/api/v1alpha2"
	"github.com/fairway-lb/fairway/test/bench/measure"
)

// The world is small, so that operations meet: more Services than addresses.
const (
	chaosNames = 24 // Services of each namespace
	poolA      = "a"
	poolB      = "b" // the default
	poolC      = "c" // bound to prod
	poolD      = "d" // of both families, bound to dev
	poolF      = "f" // deleted and created again
)

func chaosNamespaces() []string { return []string{"dev", "prod"} }

func chaosPools() []string { return []string{poolA, poolB, poolC, poolD, poolF} }

// object is JSON.
type object = map[string]any

// chaos does random operations on pools and Services.
type chaos struct {
	*cluster
	rng     *rand.Rand // what is done
	timing  *rand.Rand // when
	witness *witness
	round   int
	count   int // operations
	grown   int
	created map[string]bool // Services, by namespace/name

	mu     sync.Mutex
	log    []string
	forced map[string]bool // pools that were deleted by force, and not created again
}

func newChaos(c *cluster, seed uint64) *chaos {
	for _, namespace := range chaosNamespaces() {
		if err := c.EnsureNamespace(c.t.Context(), namespace); err != nil {
			c.t.Fatal(err)
		}
	}
	return &chaos{cluster: c, rng: rand.New(rand.NewPCG(seed, 0)), timing: rand.New(rand.NewPCG(seed, 1)), created: map[string]bool{}, forced: map[string]bool{}}
}

// disturb does operations, sometimes all at once, sometimes with pauses, until
// the channel is closed or the time is over, which begins when the controller
// works, or at once if works is nil. It returns whether the channel was closed.
func (w *chaos) disturb(enough <-chan struct{}, works func() bool, most time.Duration) bool {
	w.t.Helper()
	pace := time.NewTicker(between(w.timing, time.Millisecond, 15*time.Millisecond))
	defer pace.Stop()
	var over <-chan time.Time
	for left := 4 + w.timing.IntN(36); ; {
		if over == nil && (works == nil || works()) {
			over = time.After(most)
		}
		select {
		case <-enough:
			return true
		case <-over:
			return false
		case <-pace.C:
			for burst := min(left, 1+w.timing.IntN(3)*w.timing.IntN(4)); burst > 0; burst-- {
				w.operate()
				left--
			}
		case <-w.t.Context().Done():
			w.t.Fatal("interrupted")
		}
	}
}

// works tells whether the controller has begun to look at objects.
func (w *chaos) works() bool {
	work, err := measure.ReadWork(w.t.Context(), w.ControlPlane())
	return err == nil && work.Reconciles > 0
}

// operate does one operation.
func (w *chaos) operate() {
	w.t.Helper()
	w.count++
	namespace, name := w.pick(true)
	switch roll := w.rng.IntN(100); {
	case roll < 22 || name == "":
		w.createService(w.pick(false))
	case roll < 38:
		w.deleteService(namespace, name)
	case roll < 53:
		w.patchService(namespace, name, "asks", object{"metadata": object{"annotations": w.ask()}})
	case roll < 58:
		w.patchService(namespace, name, "has other ports", object{"spec": object{"ports": w.ports()}})
	case roll < 62:
		spec := object{"type": []string{"ClusterIP", "LoadBalancer", "LoadBalancer"}[w.rng.IntN(3)]}
		w.patchService(namespace, name, "is of another type", object{"spec": spec})
	case roll < 66:
		value := []any{nil, v1alpha2.LoadBalancerValue, v1alpha2.LoadBalancerValue, "other"}[w.rng.IntN(4)]
		w.patchService(namespace, name, "opts in or out", object{"metadata": object{"annotations": object{v1alpha2.AnnotationLoadBalancer: value}}})
	case roll < 70:
		policy := []string{"SingleStack", "PreferDualStack", "RequireDualStack"}[w.rng.IntN(3)]
		w.patchService(namespace, name, "has another family policy", object{"spec": object{"ipFamilyPolicy": policy}})
	case roll < 74:
		w.patchService(namespace, name, "is touched", object{"metadata": object{"annotations": object{"example.com/touched": fmt.Sprint(w.count)}}})
	case roll < 78:
		w.patchService(namespace, name, "loses its label", object{"metadata": object{"labels": object{v1alpha2.LabelPool: nil}}})
	case roll < 82:
		w.patchService(namespace, name, "loses its finalizer", object{"metadata": object{"finalizers": nil}})
	case roll < 85:
		w.wipeStatus(namespace, name)
	default:
		w.operatePool(chaosPools()[w.rng.IntN(len(chaosPools()))])
	}
}

// pick returns a Service that was created and not deleted since, or one that
// was not; an empty name if there is none.
func (w *chaos) pick(created bool) (namespace, name string) {
	for range 8 { // most of the times
		namespace, name = chaosNamespaces()[w.rng.IntN(2)], fmt.Sprintf("svc-%d", w.rng.IntN(chaosNames))
		if w.created[namespace+"/"+name] == created {
			return namespace, name
		}
	}
	return "", ""
}

// createService creates a Service of a random request.
func (w *chaos) createService(namespace, name string) {
	w.t.Helper()
	if name == "" {
		return
	}
	w.created[namespace+"/"+name] = true
	annotations := w.ask()
	annotations[v1alpha2.AnnotationLoadBalancer] = v1alpha2.LoadBalancerValue
	given := map[string]string{}
	for key, value := range annotations {
		if text, ok := value.(string); ok {
			given[key] = text
		}
	}
	svc := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name, Annotations: given}}
	svc.Spec.Type = corev1.ServiceTypeLoadBalancer
	svc.Spec.Selector = map[string]string{"app": "x"}
	svc.Spec.Ports = w.ports()
	if policies := []corev1.IPFamilyPolicy{corev1.IPFamilyPolicyPreferDualStack, corev1.IPFamilyPolicyRequireDualStack}; w.rng.IntN(4) == 0 {
		svc.Spec.IPFamilyPolicy = &policies[w.rng.IntN(2)]
	}
	if w.rng.IntN(8) == 0 {
		svc.Spec.ExternalTrafficPolicy = corev1.ServiceExternalTrafficPolicyLocal
	}
	err := w.api.Create(w.t.Context(), svc)
	w.did(err, "Service %s/%s is created: %s, %s, ports %s", namespace, name, text(given), policyOf(svc), portsText(svc))
}

// ask is a random request, as a patch of the annotations.
func (w *chaos) ask() object {
	annotations := object{v1alpha2.AnnotationPool: nil, v1alpha2.AnnotationAddress: nil, v1alpha2.AnnotationShare: nil}
	pool := func() string { return chaosPools()[w.rng.IntN(len(chaosPools()))] }
	address := func() string { return fmt.Sprintf("10.%d.0.%d", 1+w.rng.IntN(5), 1+w.rng.IntN(4)) }
	switch roll := w.rng.IntN(20); {
	case roll < 7:
		annotations[v1alpha2.AnnotationPool] = pool()
	case roll < 9:
		annotations[v1alpha2.AnnotationPool] = pool() + "," + pool()
	case roll < 13:
		annotations[v1alpha2.AnnotationAddress] = address()
	case roll < 14:
		annotations[v1alpha2.AnnotationPool] = poolA
		annotations[v1alpha2.AnnotationAddress] = fmt.Sprintf("10.1.0.%d", 1+w.rng.IntN(4))
	case roll < 15:
		n := 1 + w.rng.IntN(4)
		annotations[v1alpha2.AnnotationAddress] = fmt.Sprintf("10.4.0.%d, 2001:db8:4::%d", n, n)
	case roll < 16: // what cannot be met
		annotations[v1alpha2.AnnotationAddress] = []string{"10.1.0.x", "10.9.9.9", "10.1.0.1,10.1.0.2"}[w.rng.IntN(3)]
	default: // automatic
	}
	if w.rng.IntN(4) == 0 {
		annotations[v1alpha2.AnnotationShare] = []string{"one", "two"}[w.rng.IntN(2)]
	}
	return annotations
}

func (w *chaos) ports() []corev1.ServicePort {
	all := []corev1.ServicePort{
		{Name: "http", Protocol: corev1.ProtocolTCP, Port: 80},
		{Name: "https", Protocol: corev1.ProtocolTCP, Port: 443},
		{Name: "dns", Protocol: corev1.ProtocolUDP, Port: 53},
	}
	w.rng.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
	return all[:1+w.rng.IntN(2)]
}

func (w *chaos) deleteService(namespace, name string) {
	w.t.Helper()
	w.created[namespace+"/"+name] = false
	err := w.api.Delete(w.t.Context(), &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name}})
	w.did(err, "Service %s/%s is deleted", namespace, name)
}

func (w *chaos) patchService(namespace, name, what string, patch object) {
	w.t.Helper()
	svc := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name}}
	err := w.api.Patch(w.t.Context(), svc, client.RawPatch(types.MergePatchType, []byte(text(patch))))
	w.did(err, "Service %s/%s %s: %s", namespace, name, what, text(patch))
}

// wipeStatus takes a Service's addresses away, as a careless user does. The
// witness is told before it sees it.
func (w *chaos) wipeStatus(namespace, name string) {
	w.t.Helper()
	svc := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name}}
	patch := client.RawPatch(types.MergePatchType, []byte(`{"status":{"loadBalancer":null}}`))
	err := w.witness.excuse(svc, func() error { return w.api.Status().Patch(w.t.Context(), svc, patch) })
	w.did(err, "Service %s/%s loses its status", namespace, name)
}

// did logs an operation. That an object is not there, or there already, or
// that the API server refuses the change, is part of the game.
func (w *chaos) did(err error, format string, args ...any) {
	w.t.Helper()
	line := fmt.Sprintf("%s round %d: ", time.Now().Format("05.000"), w.round) + fmt.Sprintf(format, args...)
	switch {
	case err == nil:
	case apierrors.IsNotFound(err), apierrors.IsAlreadyExists(err), apierrors.IsConflict(err), apierrors.IsInvalid(err), apierrors.IsForbidden(err):
		line += ": " + string(apierrors.ReasonForError(err))
	default:
		w.t.Fatalf("%s: %v", line, err)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.log = append(w.log, line)
}

// about returns the operations whose line contains one of the texts.
func (w *chaos) about(texts ...string) string {
	w.mu.Lock()
	defer w.mu.Unlock()
	var lines []string
	for _, line := range w.log {
		if slices.ContainsFunc(texts, func(text string) bool { return strings.Contains(line, text+" ") }) {
			lines = append(lines, line)
		}
	}
	return strings.Join(lines[max(0, len(lines)-25):], "\n")
}

// deleteServices deletes all and waits until they are gone.
func (w *chaos) deleteServices() {
	w.t.Helper()
	for _, namespace := range chaosNamespaces() {
		for i := range chaosNames {
			w.deleteService(namespace, fmt.Sprintf("svc-%d", i))
		}
	}
	w.eventually("all Services are gone", func() string {
		if left := w.services(); len(left) > 0 {
			return fmt.Sprintf("%d are left: %s", len(left), describe(left[0]))
		}
		return ""
	})
}

// services returns the Services of the two namespaces.
func (w *chaos) services() []*corev1.Service {
	w.t.Helper()
	var list corev1.ServiceList
	if err := w.api.List(w.t.Context(), &list); err != nil {
		w.t.Fatalf("listing Services: %v", err)
	}
	var services []*corev1.Service
	for i := range list.Items {
		if slices.Contains(chaosNamespaces(), list.Items[i].Namespace) {
			services = append(services, &list.Items[i])
		}
	}
	return services
}

func text(value any) string {
	content, err := json.Marshal(value)
	if err != nil {
		return err.Error()
	}
	return string(content)
}

func policyOf(svc *corev1.Service) corev1.IPFamilyPolicy {
	if svc.Spec.IPFamilyPolicy == nil {
		return corev1.IPFamilyPolicySingleStack
	}
	return *svc.Spec.IPFamilyPolicy
}

func portsText(svc *corev1.Service) string {
	var ports []string
	for _, port := range svc.Spec.Ports {
		ports = append(ports, fmt.Sprintf("%d/%s", port.Port, port.Protocol))
	}
	return strings.Join(ports, ",")
}

// describe is a Service in a line.
func describe(svc *corev1.Service) string {
	annotations := map[string]string{}
	for _, key := range []string{v1alpha2.AnnotationLoadBalancer, v1alpha2.AnnotationPool, v1alpha2.AnnotationAddress, v1alpha2.AnnotationShare} {
		if value, ok := svc.Annotations[key]; ok {
			annotations[key] = value
		}
	}
	line := fmt.Sprintf("Service %s/%s of type %s, %s %v, ports %s, %s, label %q, finalizers %v, addresses %q",
		svc.Namespace, svc.Name, svc.Spec.Type, policyOf(svc), svc.Spec.IPFamilies, portsText(svc), text(annotations), svc.Labels[v1alpha2.LabelPool], svc.Finalizers, externalIPs(svc))
	for _, condition := range svc.Status.Conditions {
		line += fmt.Sprintf(", %s %s: %s", condition.Status, condition.Reason, condition.Message)
	}
	if !svc.DeletionTimestamp.IsZero() {
		line += ", is being deleted"
	}
	return line
}
