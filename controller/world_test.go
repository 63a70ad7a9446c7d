package controller

import (
	"context"
	"errors"
	"strconv"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	applycorev1 "k8s.io/client-go/applyconfigurations/core/v1"
	"k8s.io/client-go/tools/events"
	"k8s.io/client-go/util/workqueue"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller/controllerutil"

	"github.com/fairway-lb/fairway/api/v1alpha2"
	"github.com/fairway-lb/fairway/controller/ipam"
)

// world is an API server that knows Services and Eips, and a cache that shows
// all Eips, and of the Services what it was last told to show.
type world struct {
	t       *testing.T
	r       *reconciler
	version int
	live    map[types.NamespacedName]*corev1.Service
	cached  map[types.NamespacedName]*corev1.Service
	eips    map[string]*v1alpha2.Eip
	refuses error // what writes are refused with
	// crashAfter is the number of the write in which the process dies, 0 for
	// none; crashTaken tells whether the API server takes it all the same.
	crashAfter int
	crashTaken bool
	stored     func(*corev1.Service) // is told of each write, if it is set
	lists      int
	queued     []request
	later      map[request]time.Duration // asked for after a while
	due        map[request]time.Time     // when that is
	writes     []string                  // the Services that were applied to, and Eips that were patched
	clock      time.Time
	events     *events.FakeRecorder
}

func newWorld(t *testing.T, eips ...*v1alpha2.Eip) *world {
	w := &world{
		t: t, clock: time.Unix(1000, 0), events: events.NewFakeRecorder(100),
		eips: map[string]*v1alpha2.Eip{}, later: map[request]time.Duration{}, live: map[types.NamespacedName]*corev1.Service{}, cached: map[types.NamespacedName]*corev1.Service{},
	}
	for _, eip := range eips {
		w.eips[eip.Name] = eip
	}
	w.lead()
	return w
}

// lead makes a new process the leader.
func (w *world) lead() {
	w.r = &reconciler{
		client: cacheClient{w: w}, live: liveReader{w: w}, queue: queue{w: w},
		events: newReporter(w.events), metrics: newMetrics(), now: func() time.Time { return w.clock },
		ipam: ipam.New(func() time.Time { return w.clock }), uids: map[ipam.ServiceKey]types.UID{}, waiting: newWaiting(), written: written{},
		disputes: newDisputes(), terms: map[ipam.ServiceKey]uint64{}, statuses: map[string]time.Time{}, rested: map[string]time.Time{}, defaults: map[string]struct{}{},
	}
}

// store writes a Service at the API server, as somebody else.
func (w *world) store(svc *corev1.Service) {
	w.version++
	svc = svc.DeepCopy()
	svc.ResourceVersion = strconv.Itoa(w.version)
	w.live[client.ObjectKeyFromObject(svc)] = svc
	if w.stored != nil {
		w.stored(svc)
	}
	if svc.DeletionTimestamp != nil && len(svc.Finalizers) == 0 {
		delete(w.live, client.ObjectKeyFromObject(svc))
	}
}

// edit stores a changed version of a Service.
func (w *world) edit(name string, changes ...change) {
	svc := w.at(name).DeepCopy()
	for _, c := range changes {
		c(svc)
	}
	w.store(svc)
}

// catchUp lets the cache show what the API server has.
func (w *world) catchUp() {
	clear(w.cached)
	for key, svc := range w.live {
		w.cached[key] = svc.DeepCopy()
	}
}

// at is a Service at the API server.
func (w *world) at(name string) *corev1.Service {
	return w.live[types.NamespacedName{Namespace: "ns", Name: name}]
}

// look has the controller look at Services, and returns after how long it
// wants to look again.
func (w *world) look(names ...string) (again time.Duration) {
	w.t.Helper()
	for _, name := range names {
		again = w.lookAt(requestForService(ipam.ServiceKey{Namespace: "ns", Name: name}))
	}
	return again
}

func (w *world) lookAt(req request) (again time.Duration) {
	w.t.Helper()
	result, err := w.r.Reconcile(w.t.Context(), req)
	if err != nil && w.refuses == nil {
		w.t.Fatalf("looking at %s: %v", req.Name, err)
	}
	return result.RequeueAfter
}

// settle looks at Services with an up-to-date cache until all is done.
func (w *world) settle(names ...string) {
	w.t.Helper()
	for range 3 {
		w.catchUp()
		w.look(names...)
	}
}

func (w *world) shows(name, ip string) {
	w.t.Helper()
	if got := shown(w.at(name)); len(got) > 1 || (len(got) == 0) != (ip == "") || (len(got) == 1 && got[0] != ip) {
		w.t.Errorf("%s shows %v, want %q", name, got, ip)
	}
}

func (w *world) eventsSoFar() (all []string) {
	for {
		select {
		case event := <-w.events.Events:
			all = append(all, event)
		default:
			return all
		}
	}
}

var errNotFaked = errors.New("the test's API server cannot do that")

// cacheClient reads from the cache and writes to the API server.
type cacheClient struct {
	client.Client
	w *world
}

func (c cacheClient) Get(_ context.Context, key client.ObjectKey, object client.Object, _ ...client.GetOption) error {
	if eip, ok := object.(*v1alpha2.Eip); ok {
		stored := c.w.eips[key.Name]
		if stored == nil {
			return apierrors.NewNotFound(schema.GroupResource{Resource: "eips"}, key.Name)
		}
		stored.DeepCopyInto(eip)
		return nil
	}
	return get(c.w.cached, key, object)
}

// dies tells whether the process dies in this write, and whether the API
// server takes it all the same.
func (w *world) dies() (dies, taken bool) {
	if w.crashAfter == 0 {
		return false, true
	}
	w.crashAfter--
	return w.crashAfter == 0, w.crashTaken
}

func (c cacheClient) Patch(ctx context.Context, object client.Object, patch client.Patch, opts ...client.PatchOption) error {
	dies, taken := c.w.dies()
	if !dies {
		return c.patch(ctx, object, patch, opts...)
	}
	if taken {
		return errors.Join(errCrash, c.patch(ctx, object, patch, opts...))
	}
	return errCrash
}

func (c cacheClient) patch(_ context.Context, object client.Object, _ client.Patch, _ ...client.PatchOption) error {
	if c.w.refuses != nil {
		return c.w.refuses
	}
	if eip, ok := object.(*v1alpha2.Eip); ok {
		c.w.eips[eip.Name] = eip.DeepCopy()
		c.w.writes = append(c.w.writes, "Eip "+eip.Name)
		return nil
	}
	svc, ok := object.(*corev1.Service)
	if !ok {
		return errNotFaked
	}
	if err := c.w.refusesOld(svc); err != nil {
		return err
	}
	c.w.store(svc)
	svc.ResourceVersion = strconv.Itoa(c.w.version)
	return nil
}

// refusesOld is what the API server says to a write that is for another
// version of a Service than it has.
func (w *world) refusesOld(svc *corev1.Service) error {
	live := w.live[client.ObjectKeyFromObject(svc)]
	switch resource := (schema.GroupResource{Resource: "services"}); {
	case live == nil:
		return apierrors.NewNotFound(resource, svc.Name)
	case live.ResourceVersion != svc.ResourceVersion || live.UID != svc.UID:
		return apierrors.NewConflict(resource, svc.Name, errors.New("another version"))
	}
	return nil
}

func (c cacheClient) Apply(_ context.Context, applied runtime.ApplyConfiguration, _ ...client.ApplyOption) error {
	dies, taken := c.w.dies()
	if !dies {
		return c.apply(applied)
	}
	if taken {
		return errors.Join(errCrash, c.apply(applied))
	}
	return errCrash
}

// apply sets the fields that the controller applies to Services.
func (c cacheClient) apply(applied runtime.ApplyConfiguration) error {
	if c.w.refuses != nil {
		return c.w.refuses
	}
	a, ok := applied.(*applycorev1.ServiceApplyConfiguration)
	if !ok {
		return errNotFaked
	}
	svc := &corev1.Service{}
	svc.Namespace, svc.Name, svc.UID, svc.ResourceVersion = *a.Namespace, *a.Name, *a.UID, *a.ResourceVersion
	if err := c.w.refusesOld(svc); err != nil {
		return err
	}
	svc = c.w.live[client.ObjectKeyFromObject(svc)].DeepCopy()
	for key, value := range a.Labels {
		metav1.SetMetaDataLabel(&svc.ObjectMeta, key, value)
	}
	for _, finalizer := range a.Finalizers {
		controllerutil.AddFinalizer(svc, finalizer)
	}
	if a.Status != nil {
		if lb := a.Status.LoadBalancer; lb != nil {
			svc.Status.LoadBalancer.Ingress = nil
			for _, entry := range lb.Ingress {
				svc.Status.LoadBalancer.Ingress = append(svc.Status.LoadBalancer.Ingress, corev1.LoadBalancerIngress{IP: *entry.IP})
			}
		}
		for _, condition := range a.Status.Conditions {
			meta.SetStatusCondition(&svc.Status.Conditions, metav1.Condition{
				Type: *condition.Type, Status: *condition.Status, Reason: *condition.Reason, Message: *condition.Message,
			})
		}
	}
	c.w.store(svc)
	c.w.writes = append(c.w.writes, svc.Name)
	version := strconv.Itoa(c.w.version)
	a.ResourceVersion, a.Labels, a.Finalizers = &version, svc.Labels, svc.Finalizers
	return nil
}

func (c cacheClient) Status() client.SubResourceWriter { return statusWriter{c: c} }

type statusWriter struct {
	client.SubResourceWriter
	c cacheClient
}

func (s statusWriter) Patch(ctx context.Context, object client.Object, patch client.Patch, _ ...client.SubResourcePatchOption) error {
	return s.c.Patch(ctx, object, patch)
}

func (s statusWriter) Apply(ctx context.Context, applied runtime.ApplyConfiguration, _ ...client.SubResourceApplyOption) error {
	return s.c.Apply(ctx, applied)
}

type liveReader struct{ w *world }

func (l liveReader) Get(_ context.Context, key client.ObjectKey, object client.Object, _ ...client.GetOption) error {
	return get(l.w.live, key, object)
}

func (l liveReader) List(_ context.Context, list client.ObjectList, _ ...client.ListOption) error {
	l.w.lists++
	if l.w.refuses != nil {
		return l.w.refuses
	}
	switch list := list.(type) {
	case *v1alpha2.EipList:
		for _, eip := range l.w.eips {
			list.Items = append(list.Items, *eip)
		}
	case *corev1.ServiceList:
		for _, svc := range l.w.live {
			list.Items = append(list.Items, *svc.DeepCopy())
		}
	default:
		return errNotFaked
	}
	return nil
}

func get(services map[types.NamespacedName]*corev1.Service, key client.ObjectKey, object client.Object) error {
	switch object := object.(type) {
	case *corev1.Namespace:
		return nil
	case *corev1.Service:
		svc := services[key]
		if svc == nil {
			return apierrors.NewNotFound(schema.GroupResource{Resource: "services"}, key.Name)
		}
		svc.DeepCopyInto(object)
		return nil
	default:
		return errNotFaked
	}
}

type queue struct {
	workqueue.TypedRateLimitingInterface[request]
	w *world
}

func (q queue) Add(req request) { q.w.queued = append(q.w.queued, req) }

func (q queue) AddAfter(req request, after time.Duration) {
	if after <= 0 {
		q.Add(req)
		return
	}
	q.w.later[req] = after
}
