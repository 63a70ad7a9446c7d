package e2e

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/fairway-lb/fairway/api/v1alpha2"
)

// memory is for how long a version counts after it was replaced: the
// controller may have decided on it, and written its decision just now.
const memory = 3 * time.Second

// witness sees every version of every Service, in order, and judges by what
// the API server shows alone.
type witness struct {
	*chaos

	mu       sync.Mutex
	known    map[types.NamespacedName]*testimony
	excused  map[string]bool // versions that the test made, and in which a Service lost its addresses
	wrong    []string
	versions int
	writes   int // versions that look like the controller's work
	given    int // addresses that Services got
	left     int // addresses that Services had no more
	awaited  int
	reached  chan struct{}
}

// testimony is what is known of a Service.
type testimony struct {
	now  *corev1.Service
	past []pastVersion // the newest last
	// abandoned tells that its owner gave it up when it carried no mark of
	// ours: the addresses that it still shows are nobody's.
	abandoned bool
}

type pastVersion struct {
	svc   *corev1.Service
	until time.Time
}

func newWitness(c *cluster, w *chaos) *witness {
	c.t.Helper()
	clientset, err := c.Clientset()
	if err != nil {
		c.t.Fatal(err)
	}
	ctx := c.t.Context()
	list, err := clientset.CoreV1().Services("").List(ctx, metav1.ListOptions{})
	if err != nil {
		c.t.Fatalf("listing Services: %v", err)
	}
	events, err := clientset.CoreV1().Services("").Watch(ctx, metav1.ListOptions{ResourceVersion: list.ResourceVersion})
	if err != nil {
		c.t.Fatalf("watching Services: %v", err)
	}
	s := &witness{chaos: w, known: map[types.NamespacedName]*testimony{}, excused: map[string]bool{}, reached: make(chan struct{})}
	go func() {
		for event := range events.ResultChan() {
			s.see(event)
		}
		if ctx.Err() == nil {
			s.mu.Lock()
			defer s.mu.Unlock()
			s.wrong = append(s.wrong, "the watch ended")
		}
	}()
	return s
}

// afterWrites returns a channel that is closed when the controller has written
// so many times more.
func (s *witness) afterWrites(n int) <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.awaited, s.reached = s.writes+n, make(chan struct{})
	return s.reached
}

func (s *witness) summary() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return fmt.Sprintf("%d versions of Services; %d times one got an address, %d times one had it no more", s.versions, s.given, s.left)
}

// check fails the test if anything was wrong.
func (s *witness) check() {
	s.t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.wrong) > 0 {
		s.t.Fatal(strings.Join(s.wrong, "\n\n"))
	}
}

// excuse does what takes a Service's addresses away without the controller.
func (s *witness) excuse(svc *corev1.Service, do func() error) error {
	s.mu.Lock() // the watch waits until the version is known
	defer s.mu.Unlock()
	err := do()
	if err == nil {
		s.excused[svc.ResourceVersion] = true
	}
	return err
}

func (s *witness) see(event watch.Event) {
	svc, ok := event.Object.(*corev1.Service)
	if !ok || !slices.Contains(chaosNamespaces(), svc.Namespace) {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.versions++
	key := client.ObjectKeyFromObject(svc)
	if event.Type == watch.Deleted {
		delete(s.known, key)
		return
	}
	seen := s.known[key]
	if seen == nil || seen.now.UID != svc.UID {
		seen = &testimony{now: svc.DeepCopy()}
		seen.now.Status = corev1.ServiceStatus{}
		s.known[key] = seen
	}
	s.countWrite(seen.now, svc)
	seen.turn(svc)
	before, after := addressesOf(seen.past[len(seen.past)-1].svc), addressesOf(svc)
	for _, addr := range after {
		if !slices.Contains(before, addr) {
			s.given++
			s.gained(seen, addr)
		}
	}
	if label := svc.Labels[v1alpha2.LabelPool]; label != "" && len(after) > 0 && poolOf(after[0]) != label {
		s.accuse(svc, "%s has the label of another Eip than its address is from", describe(svc))
	}
	for _, addr := range before {
		if slices.Contains(after, addr) {
			continue
		}
		if s.left++; !s.excused[svc.ResourceVersion] {
			s.lost(seen, addr)
		}
	}
}

// turn makes a version the current one.
func (t *testimony) turn(svc *corev1.Service) {
	now := time.Now()
	t.past = slices.DeleteFunc(t.past, func(v pastVersion) bool { return now.Sub(v.until) > memory })
	t.past = append(t.past, pastVersion{t.now, now})
	t.now = svc
	t.abandoned = !wants(svc) && !carriesMark(svc) || t.abandoned && len(addressesOf(svc)) > 0
}

// recent are the versions that the controller may act on.
func (t *testimony) recent() []*corev1.Service {
	versions := []*corev1.Service{t.now}
	for _, v := range t.past {
		versions = append(versions, v.svc)
	}
	return versions
}

func (t *testimony) ever(is func(*corev1.Service) bool) bool {
	return slices.ContainsFunc(t.recent(), is)
}

func (s *witness) countWrite(before, after *corev1.Service) {
	if equality.Semantic.DeepEqual(before.Status, after.Status) && equality.Semantic.DeepEqual(before.Finalizers, after.Finalizers) && equality.Semantic.DeepEqual(before.Labels, after.Labels) {
		return
	}
	if s.writes++; s.writes == s.awaited {
		close(s.reached)
	}
}

// gained judges that a Service shows an address that it did not have.
func (s *witness) gained(who *testimony, addr netip.Addr) {
	svc := who.now
	if !who.ever(wants) {
		s.accuse(svc, "%s got %s and asks for none", describe(svc), addr)
	}
	if poolOf(addr) == "" {
		s.accuse(svc, "%s got %s, which is in no Eip", describe(svc), addr)
	}
	for _, other := range s.known {
		if other == who || other.abandoned || !slices.Contains(addressesOf(other.now), addr) {
			continue
		}
		agreed := who.ever(func(a *corev1.Service) bool {
			return other.ever(func(b *corev1.Service) bool { return mayShare(a, b, addr) })
		})
		if !agreed {
			s.accuse(svc, "%s got %s, which belongs to %s", describe(svc), addr, describe(other.now))
		}
	}
}

// lost judges that a Service does not show an address any more.
func (s *witness) lost(who *testimony, addr netip.Addr) {
	if s.isForced(poolOf(addr)) || who.ever(func(svc *corev1.Service) bool { return !satisfies(svc, addr) }) {
		return
	}
	if previous := who.past[len(who.past)-1].svc; !carriesMark(previous) && who.ever(func(svc *corev1.Service) bool { return !wants(svc) }) {
		return // given up while it did not look like ours
	}
	s.accuse(who.now, "%s lost %s, and nobody asked for that", describe(who.now), addr)
}

func (s *witness) accuse(svc *corev1.Service, format string, args ...any) {
	const most = 3 // what follows is mostly a consequence
	if len(s.wrong) < most {
		line := fmt.Sprintf("%s: ", time.Now().Format("05.000")) + fmt.Sprintf(format, args...)
		s.wrong = append(s.wrong, line+"\noperations:\n"+s.about("Service "+svc.Namespace+"/"+svc.Name, "Eip "+svc.Annotations[v1alpha2.AnnotationPool], "Eip "+svc.Labels[v1alpha2.LabelPool]))
	}
}
