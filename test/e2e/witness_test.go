package e2e

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"go4.org/netipx"
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
	if !ok || !slices.Contains(chaosNamespaces, svc.Namespace) {
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

// consistent waits until all that the API server shows fits together: no two
// Services hold an address without consent unless they came to that by an
// edit, every address is in an Eip that lists its holders, and nothing that
// was deleted or given up is left.
func (s *witness) consistent() {
	s.t.Helper()
	s.eventually("pools and Services fit together", func() string {
		s.check()
		services, pools := s.services(), s.pools()
		used := map[string]map[string]string{}
		space := map[string]*netipx.IPSet{}
		for _, pool := range pools {
			used[pool.Name] = map[string]string{}
			set, err := pool.Spec.AddressSet()
			if err != nil {
				return fmt.Sprintf("Eip %s: %v", pool.Name, err)
			}
			space[pool.Name] = set
		}
		for _, svc := range services {
			if !wants(svc) && (carriesMark(svc) || !svc.DeletionTimestamp.IsZero()) {
				return "not let go: " + describe(svc)
			}
			if !wants(svc) {
				continue
			}
			for _, addr := range addressesOf(svc) {
				pool := poolOf(addr)
				if space[pool] == nil || !space[pool].Contains(addr) {
					return fmt.Sprintf("%s is in no Eip: %s", addr, describe(svc))
				}
				holders := append(strings.FieldsFunc(used[pool][addr.String()], isSemicolon), svc.Namespace+"/"+svc.Name)
				slices.Sort(holders)
				used[pool][addr.String()] = strings.Join(holders, ";")
			}
		}
		for _, pool := range pools {
			shown := map[string]string{}
			for addr, text := range pool.Status.Used {
				holders := strings.FieldsFunc(text, isSemicolon)
				slices.Sort(holders)
				shown[addr] = strings.Join(holders, ";")
			}
			if !maps.Equal(shown, used[pool.Name]) || pool.Status.Usage != len(shown) {
				return fmt.Sprintf("Eip %s has usage %d and used %v, want %v", pool.Name, pool.Status.Usage, shown, used[pool.Name])
			}
		}
		return ""
	})
}

func isSemicolon(r rune) bool { return r == ';' }

// served waits until every Service has what can be had.
func (s *witness) served() {
	s.t.Helper()
	s.eventually("every Service has what it can have", func() string {
		s.check()
		services, pools := s.services(), s.pools()
		for _, svc := range services {
			if missing := missingOf(svc, services, pools); missing != "" {
				return fmt.Sprintf("%s: %s\noperations:\n%s", missing, describe(svc), s.about("Service "+svc.Namespace+"/"+svc.Name))
			}
		}
		return ""
	})
}

// missingOf says what a Service could have and has not, in a world with room.
func missingOf(svc *corev1.Service, services []*corev1.Service, pools []v1alpha2.Eip) string {
	if !wants(svc) {
		return ""
	}
	request := requestOf(svc)
	if request.malformed {
		return ""
	}
	held := addressesOf(svc)
	if len(request.addresses) > 0 {
		if policyOf(svc) == corev1.IPFamilyPolicyRequireDualStack && len(request.addresses) < 2 {
			return "" // the second comes from a pool, or there is none
		}
		free := func(addr netip.Addr) bool { return canHave(svc, addr, services, pools, request) }
		if slices.ContainsFunc(request.addresses, func(addr netip.Addr) bool { return !free(addr) }) {
			return ""
		}
		for _, addr := range request.addresses {
			if !slices.Contains(held, addr) {
				return addr.String() + " is missing"
			}
		}
		return ""
	}
	candidates := candidatesOf(svc, pools, request)
	var wanted []bool // whether an IPv4 address, an IPv6 address
	for _, family := range svc.Spec.IPFamilies {
		four := family == corev1.IPv4Protocol
		offered := slices.ContainsFunc(candidates, func(pool string) bool { return four || pool == poolD })
		switch {
		case offered:
			wanted = append(wanted, four)
		case policyOf(svc) != corev1.IPFamilyPolicyPreferDualStack:
			return ""
		}
	}
	for _, four := range wanted {
		has := slices.ContainsFunc(held, func(addr netip.Addr) bool {
			return addr.Is4() == four && (len(request.pools) == 0 || slices.Contains(candidates, poolOf(addr)))
		})
		if !has {
			return fmt.Sprintf("an address of %v is missing (IPv4: %t)", candidates, four)
		}
	}
	return ""
}

// canHave tells whether an address that a Service asks for is its own or could
// be.
func canHave(svc *corev1.Service, addr netip.Addr, services []*corev1.Service, pools []v1alpha2.Eip, request request) bool {
	if !usable(svc, addr) || len(request.pools) > 0 && !slices.Contains(request.pools, poolOf(addr)) {
		return false
	}
	exists := slices.ContainsFunc(pools, func(pool v1alpha2.Eip) bool {
		set, err := pool.Spec.AddressSet()
		return err == nil && pool.DeletionTimestamp.IsZero() && set.Contains(addr)
	})
	return exists && !slices.ContainsFunc(services, func(other *corev1.Service) bool {
		return other != svc && slices.Contains(addressesOf(other), addr) && !mayShare(svc, other, addr)
	})
}

// candidatesOf are the pools that may serve a Service.
func candidatesOf(svc *corev1.Service, pools []v1alpha2.Eip, request request) []string {
	var names []string
	for _, pool := range pools {
		isDefault := pool.Annotations[v1alpha2.AnnotationDefaultEip] == "true"
		named := slices.Contains(request.pools, pool.Name)
		automatic := len(request.pools) == 0 && (isDefault || slices.Contains(pool.Spec.Namespaces, svc.Namespace))
		if pool.DeletionTimestamp.IsZero() && (named || automatic) {
			names = append(names, pool.Name)
		}
	}
	return names
}

// request is what a Service asks for.
type request struct {
	pools     []string
	addresses []netip.Addr
	malformed bool
}

func requestOf(svc *corev1.Service) request {
	var r request
	for name := range strings.SplitSeq(svc.Annotations[v1alpha2.AnnotationPool], ",") {
		if name != "" {
			r.pools = append(r.pools, name)
		}
	}
	text := svc.Annotations[v1alpha2.AnnotationAddress]
	if text == "" {
		return r
	}
	for part := range strings.SplitSeq(text, ",") {
		addr, err := netip.ParseAddr(strings.TrimSpace(part))
		if err != nil || slices.ContainsFunc(r.addresses, func(other netip.Addr) bool { return other.Is4() == addr.Is4() }) {
			r.malformed = true
		}
		r.addresses = append(r.addresses, addr)
	}
	return r
}

// satisfies tells whether an address is one that a Service asks for, so that
// it must be left with it.
func satisfies(svc *corev1.Service, addr netip.Addr) bool {
	if !wants(svc) || !usable(svc, addr) {
		return false
	}
	r := requestOf(svc)
	if r.malformed {
		return true // no request to move
	}
	return (len(r.addresses) == 0 || slices.Contains(r.addresses, addr)) && (len(r.pools) == 0 || slices.Contains(r.pools, poolOf(addr)))
}

// usable tells whether an address is of a family that a Service has.
func usable(svc *corev1.Service, addr netip.Addr) bool {
	family := corev1.IPv6Protocol
	if addr.Is4() {
		family = corev1.IPv4Protocol
	}
	return slices.Contains(svc.Spec.IPFamilies, family)
}

// mayShare tells whether two Services, which have the same selector, agree to
// have an address together.
func mayShare(a, b *corev1.Service, addr netip.Addr) bool {
	key := a.Annotations[v1alpha2.AnnotationShare]
	consent := key != "" || slices.Contains(requestOf(a).addresses, addr) && slices.Contains(requestOf(b).addresses, addr)
	if a.Namespace != b.Namespace || key != b.Annotations[v1alpha2.AnnotationShare] || !consent {
		return false
	}
	return !slices.ContainsFunc(a.Spec.Ports, func(port corev1.ServicePort) bool {
		return slices.ContainsFunc(b.Spec.Ports, func(other corev1.ServicePort) bool {
			return port.Port == other.Port && port.Protocol == other.Protocol
		})
	})
}

func wants(svc *corev1.Service) bool {
	return svc.DeletionTimestamp.IsZero() && svc.Spec.Type == corev1.ServiceTypeLoadBalancer &&
		svc.Annotations[v1alpha2.AnnotationLoadBalancer] == v1alpha2.LoadBalancerValue
}

func carriesMark(svc *corev1.Service) bool {
	_, labelled := svc.Labels[v1alpha2.LabelPool]
	return labelled || slices.Contains(svc.Finalizers, v1alpha2.FinalizerService)
}

func addressesOf(svc *corev1.Service) []netip.Addr {
	var addrs []netip.Addr
	for _, ingress := range svc.Status.LoadBalancer.Ingress {
		if addr, err := netip.ParseAddr(ingress.IP); err == nil {
			addrs = append(addrs, addr)
		}
	}
	return addrs
}

// poolOf is the name of the pool whose region an address is in, "" for none.
func poolOf(addr netip.Addr) string {
	for i, name := range chaosPools {
		if netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(1 + i)}), 16).Contains(addr) {
			return name
		}
	}
	if netip.MustParsePrefix("2001:db8:4::/48").Contains(addr) {
		return poolD
	}
	return ""
}
