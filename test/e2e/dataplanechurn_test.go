package e2e

import (
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/fairway-lb/fairway/api/v1alpha2"
	"github.com/fairway-lb/fairway/internal/uml"
	"github.com/fairway-lb/fairway/test/lab"
)

// churnVariable is how long each dataplane is disturbed, as in 10m. Without it,
// it is a few bursts.
const churnVariable = "FAIRWAY_CHURN"

const (
	churnBursts = 2
	churnEvents = 30  // of a burst
	churnPods   = 600 // the lab has addresses for no more than 720
	// heldBack is longer than a dataplane goes on to forward for an address
	// that somebody has yet to withdraw (2.25 s).
	heldBack = 2500 * time.Millisecond
)

// TestSpeakerKilledUnderChurn changes Services, endpoints and pods at random
// under constant traffic, while the speakers are killed with SIGKILL and started
// anew. A Service that always has an endpoint always answers, and by the first
// packet; nobody is answered by a pod that is not of the Service that he asks;
// and whenever there is a pause, what is in the kernel is as after a fresh start.
func TestSpeakerKilledUnderChurn(t *testing.T) {
	seed := seedOf(t)
	t.Logf("%s=%d repeats the operations", seedVariable, seed)
	c := newClusterWith(t, lab.Options{Nodes: 3, KubeProxy: lab.NoKubeProxy}, "")
	w := newChurn(c, seed)
	for _, dataplane := range dataplanes {
		c.run(dataplane, func(*testing.T) { w.churn(dataplane) })
	}
}

// TestSpeakerKilledUnderChurnIPVS is the same in a guest, which has IPVS.
func TestSpeakerKilledUnderChurnIPVS(t *testing.T) {
	if !inGuest(t) {
		return
	}
	seed := seedOf(t)
	t.Logf("%s=%d repeats the operations", seedVariable, seed)
	newChurn(newForwarding(t, 3, ""), seed).churn("ipvs")
}

// churn is a world that changes. Each of its Services has a slot, which is an
// address of each kind: another one may have it later.
type churn struct {
	*cluster
	rng    *rand.Rand
	slots  [5]*churnService // the first one is always there
	pods   []*churnPod
	serial int             // of names
	marker int             // see mark
	down   map[string]bool // nodes without a speaker

	mu    sync.Mutex // guards what follows
	round int        // counts the pauses
	// may has, by slot and pod, the last round in which the pod could answer.
	may [5]map[string]int
}

// churnService is what differs between Services.
type churnService struct {
	name, app          string
	affinity           corev1.ServiceAffinity
	external, internal string // traffic policies
	port81             bool
}

type churnPod struct {
	*lab.RunningPod
	app   string
	ready bool
	left  bool // for good
}

// The apps; web is that of the first slot, and of no other.
const web = "web"

var churnApps = []string{web, "red", "green", "blue"}

func newChurn(c *cluster, seed uint64) *churn {
	w := &churn{cluster: c, rng: rand.New(rand.NewPCG(seed, 3)), down: map[string]bool{}}
	for slot := range w.may {
		w.may[slot] = map[string]int{}
	}
	c.kubectl("create", "namespace", "dev")
	c.startController("--leader-elect=false") // a busy machine may lose the Lease
	c.apply(eip("churn", "192.168.93.230-192.168.93.239", "addresses: [fd93::230-fd93::239]"))
	c.apply(`
apiVersion: v1
kind: Service
metadata: {name: marker, namespace: dev}
spec: {ports: [{port: 1000}]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: marker, namespace: dev, labels: {kubernetes.io/service-name: marker}}
addressType: IPv4
ports: [{name: "", port: 80}]
endpoints: [{addresses: [198.18.0.1]}]`)
	for _, node := range []string{"n1", "n1", "n2", "n2", "n3"} {
		w.addPod(web, node)
	}
	for _, app := range churnApps[1:] {
		w.addPod(app, w.anyNode())
	}
	c.pod("dev", "asker", nil, "n1")
	for slot := range 3 {
		w.createService(slot)
	}
	return w
}

// churn disturbs a dataplane.
func (w *churn) churn(dataplane string) {
	t := w.t
	end := func(burst int, _ time.Time) bool { return burst == churnBursts }
	if text := os.Getenv(churnVariable); text != "" {
		long, err := time.ParseDuration(text)
		if err != nil {
			t.Fatal(err)
		}
		begun := time.Now()
		end = func(_ int, now time.Time) bool { return now.Sub(begun) > long }
	}
	for _, node := range w.nodeNames() { // what forwarded before is replaced
		if speaker := w.speakers[node]; speaker != nil {
			if err := speaker.Stop(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		w.down[node] = true
	}
	w.dataplane = dataplane
	w.pause()
	stop := w.traffic()
	kills := 0
	for burst := 0; !end(burst, time.Now()) && !t.Failed(); burst++ {
		for range churnEvents {
			kills += w.strike()
			w.wait(time.Duration(w.rng.IntN(120)) * time.Millisecond)
		}
		w.pause()
		w.startFresh("n3") // where no measured traffic comes in
		t.Logf("%d bursts, %d speakers killed", burst+1, kills)
	}
	stop()
	w.startFresh("n1", "n2")
	if kills == 0 {
		t.Error("no speaker was killed")
	}
}

// strike changes something, and returns how many speakers it killed.
func (w *churn) strike() (kills int) {
	w.t.Helper()
	switch roll := w.rng.IntN(20); {
	case roll < 4:
		node := w.anyNode()
		if w.down[node] {
			w.startOn(node)
			return 0
		}
		w.did("the speaker of %s is killed", node)
		if err := w.speakers[node].Kill(); err != nil {
			w.t.Fatal(err)
		}
		w.down[node] = true
		return 1
	case roll < 7:
		w.changeService(0)
	case roll < 12:
		slot := 1 + w.rng.IntN(len(w.slots)-1)
		switch {
		case w.slots[slot] == nil:
			w.createService(slot)
		case w.rng.IntN(2) == 0:
			w.deleteService(slot)
		default:
			w.changeService(slot)
		}
	default:
		w.strikePod(churnApps[w.rng.IntN(len(churnApps))])
	}
	return 0
}

func (w *churn) strikePod(app string) {
	w.t.Helper()
	pods := w.podsOf(app, "")
	if len(pods) == 0 || len(pods) < 8 && w.rng.IntN(5) == 0 {
		if w.serial < churnPods {
			w.addPod(app, w.anyNode())
		}
		return
	}
	p := pods[w.rng.IntN(len(pods))]
	leaves := w.rng.IntN(5) == 0
	if app == web && p.ready && len(w.readyPods(web, p.Node().Name())) == 1 {
		return // the Service always has an endpoint, on each node for policy Local
	}
	if leaves && app == web {
		p.left = true // see pause
	} else if leaves {
		w.did("pod %s is deleted", p.PodName())
		w.removePod(p)
		return
	}
	w.setReady(p, !p.ready && !leaves)
}

func (w *churn) addPod(app, node string) {
	w.t.Helper()
	w.serial++
	name := fmt.Sprintf("%s-%d", app, w.serial)
	w.did("pod %s is added on %s", name, node)
	w.mayAnswer(app, name)
	pod := w.pod("dev", name, map[string]string{"app": app}, node)
	w.pods = append(w.pods, &churnPod{RunningPod: pod, app: app, ready: true})
}

func (w *churn) setReady(p *churnPod, ready bool) {
	w.t.Helper()
	w.did("pod %s is ready: %v", p.PodName(), ready)
	if ready {
		w.mayAnswer(p.app, p.PodName())
	}
	if err := p.SetReady(w.t.Context(), ready); err != nil {
		w.t.Fatal(err)
	}
	p.ready = ready
}

func (w *churn) removePod(p *churnPod) {
	w.t.Helper()
	w.pods = slices.DeleteFunc(w.pods, func(other *churnPod) bool { return other == p })
	if err := p.Delete(w.t.Context()); err != nil {
		w.t.Fatal(err)
	}
}

// podsOf returns the pods of an app that have not left, "" stands for any node.
func (w *churn) podsOf(app, node string) (pods []*churnPod) {
	for _, p := range w.pods {
		if p.app == app && !p.left && (node == "" || p.Node().Name() == node) {
			pods = append(pods, p)
		}
	}
	return pods
}

func (w *churn) readyPods(app, node string) (names []string) {
	for _, p := range w.podsOf(app, node) {
		if p.ready {
			names = append(names, p.PodName())
		}
	}
	return names
}

func (w *churn) anyNode() string { return w.nodeNames()[w.rng.IntN(len(w.Nodes()))] }

// The addresses of a slot, by family.
func churnClusterIP(slot int) [2]string {
	return [2]string{fmt.Sprintf("10.96.0.5%d", slot), fmt.Sprintf("fd00:10:96::5%d", slot)}
}

func churnVIP(slot int) [2]string {
	return [2]string{fmt.Sprintf("192.168.93.23%d", slot), fmt.Sprintf("fd93::23%d", slot)}
}

func churnNodePort(slot int) int { return 30050 + slot }

func (w *churn) createService(slot int) {
	w.t.Helper()
	w.serial++
	app := web
	if slot > 0 {
		app = churnApps[1+w.rng.IntN(len(churnApps)-1)]
	}
	s := &churnService{name: fmt.Sprintf("service-%d", w.serial), app: app}
	spec := w.changes(s, slot)
	addresses := churnClusterIP(slot)
	spec["type"], spec["selector"] = corev1.ServiceTypeLoadBalancer, object{"app": app}
	spec["ipFamilyPolicy"], spec["clusterIP"], spec["clusterIPs"] = corev1.IPFamilyPolicyRequireDualStack, addresses[0], addresses
	w.did("%s is created in slot %d for %s: %s", s.name, slot, app, text(spec))
	w.slots[slot] = s
	for _, name := range w.readyPods(app, "") {
		w.mayAnswer(app, name)
	}
	vip := churnVIP(slot)
	_, err := w.Kubectl(w.t.Context(), text(object{"apiVersion": "v1", "kind": "Service", "spec": spec, "metadata": object{
		"namespace": "dev", "name": s.name, "annotations": object{
			v1alpha2.AnnotationLoadBalancer: v1alpha2.LoadBalancerValue,
			v1alpha2.AnnotationPool:         "churn",
			v1alpha2.AnnotationAddress:      vip[0] + "," + vip[1],
		}}}), "apply", "-f", "-")
	switch {
	case err == nil:
	case slot > 0 && strings.Contains(err.Error(), "provided IP is already allocated"):
		// The API server repaired the allocation of the Service before, in the
		// moment in which that was deleted: for a minute nobody gets the address.
		w.did("%s is not created: %v", s.name, err)
		w.slots[slot] = nil
	default:
		w.t.Fatalf("creating %s: %v", s.name, err)
	}
}

// changes makes a Service another one, and returns it as a part of its spec.
func (w *churn) changes(s *churnService, slot int) object {
	policy := func() string { return []string{"Cluster", "Local"}[w.rng.IntN(2)] }
	s.external, s.internal, s.port81 = policy(), policy(), w.rng.IntN(2) == 0
	affinity := []corev1.ServiceAffinity{corev1.ServiceAffinityNone, corev1.ServiceAffinityClientIP}[w.rng.IntN(2)]
	// With IPVS a Service keeps what it has at first: under policy Local another
	// affinity is another scheduler, and the kernel refuses what comes in the
	// moment between them (docs/dataplane.md).
	if s.affinity == "" || !uml.Inside() {
		s.affinity = affinity
	}
	ports := []object{{"name": "http", "port": 80, "nodePort": churnNodePort(slot)}}
	if s.port81 {
		ports = append(ports, object{"name": "more", "port": 81, "targetPort": 80})
	}
	return object{
		"externalTrafficPolicy": s.external,
		"internalTrafficPolicy": s.internal,
		"sessionAffinity":       s.affinity,
		"ports":                 ports,
	}
}

func (w *churn) changeService(slot int) {
	w.t.Helper()
	s := w.slots[slot]
	spec := w.changes(s, slot)
	w.did("%s changes: %s", s.name, text(spec))
	w.patch(&corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "dev", Name: s.name}}, object{"spec": spec})
}

// deleteService returns when another one can have the addresses.
func (w *churn) deleteService(slot int) {
	w.t.Helper()
	s := w.slots[slot]
	w.did("%s in slot %d is deleted", s.name, slot)
	w.slots[slot] = nil
	svc := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "dev", Name: s.name}}
	if err := w.api.Delete(w.t.Context(), svc); err != nil {
		w.t.Fatal(err)
	}
	w.eventually(s.name+" is gone", func() string {
		if err := w.api.Get(w.t.Context(), client.ObjectKeyFromObject(svc), svc); !apierrors.IsNotFound(err) {
			return fmt.Sprintf("it is there: %v", err)
		}
		return ""
	})
}

func (w *churn) patch(o client.Object, patch object) {
	w.t.Helper()
	if err := w.api.Patch(w.t.Context(), o, client.RawPatch(types.MergePatchType, []byte(text(patch)))); err != nil {
		w.t.Fatalf("patching %s: %v", o.GetName(), err)
	}
}

// did logs an event, of which the test may have to tell what came before.
func (w *churn) did(format string, args ...any) {
	w.t.Helper()
	w.t.Logf("%s %s", time.Now().Format("04:05.000"), fmt.Sprintf(format, args...))
}

func (w *churn) wait(d time.Duration) {
	select {
	case <-time.After(d):
	case <-w.t.Context().Done():
	}
}

func (w *churn) startOn(node string) {
	w.t.Helper()
	w.did("a speaker is started on %s", node)
	w.startSpeaker(node)
	delete(w.down, node)
}

// mayAnswer says that from now on a pod may answer wherever its app has a slot.
func (w *churn) mayAnswer(app, pod string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for slot, s := range w.slots {
		if s != nil && s.app == app {
			w.may[slot][pod] = w.round
		}
	}
}

// nextRound forgets who could answer in earlier ones.
func (w *churn) nextRound() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.round++
	for slot, s := range w.slots {
		if s != nil {
			for _, pod := range w.readyPods(s.app, "") {
				w.may[slot][pod] = w.round
			}
		}
	}
}
