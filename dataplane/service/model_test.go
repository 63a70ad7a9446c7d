package service

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"

	"github.com/fairway-lb/fairway/api/v1alpha2"
)

// cluster is all objects that there are.
type cluster struct {
	services map[string]*corev1.Service
	slices   map[string]*discoveryv1.EndpointSlice
	zone     string
}

// TestStateAgainstModel lives through random events and compares the state
// after each batch with a fresh one that is fed with what there is then, in
// another order, and with a model that is computed from the objects.
func TestStateAgainstModel(t *testing.T) {
	for seed := range uint64(30) {
		random := rand.New(rand.NewPCG(seed, 0))
		s, objects := newState(), cluster{map[string]*corev1.Service{}, map[string]*discoveryv1.EndpointSlice{}, "east"}
		backend, checks, findings := map[PortName]*Port{}, map[string]HealthCheck{}, map[string][]Finding{}
		for range 60 {
			for range 1 + random.IntN(4) { // events of one batch
				happen(random, s, &objects)
			}
			c := s.Changes()
			follow(t, c, backend, checks, findings)

			fresh := objects.fresh(random)
			same := map[PortName]*Port{}
			for name, port := range fresh.Ports() {
				same[name] = port
			}
			if !maps.EqualFunc(backend, same, (*Port).Equal) {
				t.Fatalf("seed %d: the ports are\n%s\nbut of a fresh state\n%s", seed, lines(backend), lines(same))
			}
			for name, e := range fresh.services {
				if got := findings[name.Name]; !slices.Equal(got, e.findings) {
					t.Fatalf("seed %d: findings\n%v\nbut of a fresh state\n%v", seed, got, e.findings)
				}
			}
			ports, counts := objects.model()
			if got := lines(backend); got != ports {
				t.Fatalf("seed %d: the ports are\n%s\nwant\n%s", seed, got, ports)
			}
			if !maps.Equal(checks, counts) {
				t.Fatalf("seed %d: health checks %v, want %v", seed, checks, counts)
			}
			all := map[PortName]*Port{}
			for name, port := range s.Ports() {
				all[name] = port
			}
			if !maps.Equal(all, backend) {
				t.Fatalf("seed %d: Ports returns\n%s\nwant\n%s", seed, lines(all), lines(backend))
			}
			if len(s.claims.holders) != len(fresh.claims.holders) || len(s.claims.contenders) != len(fresh.claims.contenders) ||
				len(s.services) != len(fresh.services) || len(s.slices) != len(fresh.slices) || len(s.zoned) != len(fresh.zoned) {
				t.Fatalf("seed %d: something remains that is not there", seed)
			}
		}
	}
}

// follow does what a backend does with changes, which have to be changes.
func follow(t *testing.T, c Changes, ports map[PortName]*Port, checks map[string]HealthCheck, findings map[string][]Finding) {
	t.Helper()
	for _, p := range c.Ports {
		if p.Before != ports[p.Name] || p.Before.Equal(p.After) {
			t.Fatalf("%s: %s\nis no change from %s\nbut from %s", p.Name, text(p.After), text(ports[p.Name]), text(p.Before))
		}
		if ports[p.Name] = p.After; p.After == nil {
			delete(ports, p.Name)
		}
	}
	for _, h := range c.HealthChecks {
		key := fmt.Sprint(h.Service.Name, h.Family)
		before, known := checks[key]
		if known != (h.Before != nil) || known && before != *h.Before || known && h.After != nil && before == *h.After {
			t.Fatalf("%s: %v is no change from %v", key, h, before)
		}
		if delete(checks, key); h.After != nil {
			checks[key] = *h.After
		}
	}
	for _, f := range c.Findings {
		if slices.Equal(findings[f.Service.Name], f.Findings) {
			t.Fatalf("%s: findings %v are the same", f.Service, f.Findings)
		}
		findings[f.Service.Name] = f.Findings
	}
}

func lines(ports map[PortName]*Port) string {
	var b strings.Builder
	for _, name := range slices.SortedFunc(maps.Keys(ports), PortName.Compare) {
		fmt.Fprintf(&b, "%s %s\n", name, text(ports[name]))
	}
	return b.String()
}

// happen has one random event.
func happen(random *rand.Rand, s *State, c *cluster) {
	switch name := string(rune('a' + random.IntN(6))); random.IntN(12) {
	case 0:
		delete(c.services, name)
		s.DeleteService(named(name))
	case 1, 2, 3, 4:
		c.services[name] = randomService(random, name)
		s.SetService(c.services[name])
	case 5:
		delete(c.slices, name)
		s.DeleteEndpointSlice(named(name))
	case 6:
		c.zone = []string{"east", "west", ""}[random.IntN(3)]
		s.SetNode(nodeIn(c.zone))
	default:
		c.slices[name] = randomSlice(random, name)
		s.SetEndpointSlice(c.slices[name])
	}
}

func pick[T any](random *rand.Rand, of ...T) T { return of[random.IntN(len(of))] }

func randomService(random *rand.Rand, name string) *corev1.Service {
	i := int(name[0] - 'a')
	v4, v6 := fmt.Sprint("10.96.0.", i), fmt.Sprint("fd00::", i)
	object := svc(name, clusterIPs(pick(random, []string{v4}, []string{v4, v6}, []string{v6, v4}, []string{v6}, []string{"None"}, []string{"10.96.0.1"})...), createdAt(int64(random.IntN(3))))
	object.Spec.Type = pick(random, corev1.ServiceTypeClusterIP, corev1.ServiceTypeLoadBalancer, corev1.ServiceTypeLoadBalancer, corev1.ServiceTypeExternalName)
	if random.IntN(4) == 0 {
		internalLocal(object)
	}
	if random.IntN(2) == 0 {
		externalLocal(object)
		object.Spec.HealthCheckNodePort = pick[int32](random, 0, 32000, 30080, 32000+int32(i))
	}
	if random.IntN(8) == 0 {
		label(v1alpha2.LabelServiceProxyName)(object)
	}
	if random.IntN(4) == 0 {
		annotation(v1alpha2.AnnotationHash, pick(random, "source", "x"))(object)
	}
	if random.IntN(2) == 0 {
		var entries []string
		for range random.IntN(5) {
			entries = append(entries, pick(random, "10.0.0.1=3", "10.0.0.2=1", "10.0.0.2=0", "fd01::1=7", "here=2", "there=0", "there=4", "*=5", "*=1", "x", "here=70000"))
		}
		annotation(v1alpha2.AnnotationWeights, strings.Join(entries, ","))(object)
	}
	for range random.IntN(3) {
		object.Status.LoadBalancer.Ingress = append(object.Status.LoadBalancer.Ingress, corev1.LoadBalancerIngress{
			IP:     pick(random, "192.0.2.1", "192.0.2.2", "2001:db8::1", ""),
			IPMode: pick(random, nil, new(corev1.LoadBalancerIPModeVIP), new(corev1.LoadBalancerIPModeProxy)),
		})
	}
	for range random.IntN(2) {
		object.Spec.ExternalIPs = append(object.Spec.ExternalIPs, pick(random, "192.0.2.1", "192.0.2.3", "10.96.0.1", "127.0.0.1"))
	}
	ranges(pick(random, nil, []string{"10.0.0.0/8"}, []string{"::/0", "10.0.0.0/8"})...)(object)
	object.Spec.Ports = nil
	for p, name := range []string{"http", "dns"} {
		if random.IntN(3) > 0 {
			object.Spec.Ports = append(object.Spec.Ports, corev1.ServicePort{
				Name: name, Protocol: pick(random, corev1.ProtocolTCP, corev1.ProtocolUDP), Port: int32(80 + p), NodePort: pick[int32](random, 0, 30080+int32(p), 30090+int32(10*p+i)),
			})
		}
	}
	return object
}

func randomSlice(random *rand.Rand, name string) *discoveryv1.EndpointSlice {
	var endpoints []string
	v6 := random.IntN(3) == 0
	hinted := random.IntN(2) == 0
	for range random.IntN(5) {
		address := pick(random, "10.0.0.1", "10.0.0.2", "10.0.0.3", "10.0.0.4", "127.0.0.1", "192.0.2.3", "10.96.0.1")
		if v6 {
			address = pick(random, "fd01::1", "fd01::2", "fd01::3", "::1", "fd00::1")
		}
		e := address + " " + pick(random, "here", "there", "*") + " " + pick(random, "rs", "rs", "rs", "st", "-", "*", "t", "r")
		if hinted || random.IntN(4) == 0 {
			e += pick(random, " z=east", " z=west", " z=east z=west")
			if random.IntN(2) == 0 {
				e += pick(random, " n=here", " n=there", " n=here n=there")
			}
		}
		endpoints = append(endpoints, e)
	}
	s := epSlice(name, string(rune('a'+random.IntN(6))), endpoints...)
	s.Ports = nil
	for _, port := range []string{"http/TCP/80", "http/UDP/8080", "dns/TCP/53", "dns/UDP/53", "other/TCP/1"} {
		if random.IntN(2) == 0 {
			s.Ports = append(s.Ports, slicePorts(port)...)
		}
	}
	if random.IntN(10) == 0 {
		s.Labels[corev1.IsHeadlessService] = ""
	}
	return s
}

// fresh returns a state that is fed with the objects, in random order.
func (c *cluster) fresh(random *rand.Rand) *State {
	objects := []any{nodeIn(c.zone)}
	for _, name := range slices.Sorted(maps.Keys(c.services)) {
		objects = append(objects, c.services[name])
	}
	for _, name := range slices.Sorted(maps.Keys(c.slices)) {
		objects = append(objects, c.slices[name])
	}
	random.Shuffle(len(objects), func(i, j int) { objects[i], objects[j] = objects[j], objects[i] })
	s := feed(newState(), objects...)
	s.Changes()
	return s
}

// model computes all ports, as text, and all health checks, from the objects
// alone and without regard to speed.
func (c *cluster) model() (ports string, checks map[string]HealthCheck) {
	// Who wants what, by the text of the frontend.
	type want struct {
		created int64
		name    string
	}
	wants := map[string][]want{}
	frontends := map[PortName][]string{} // with the kind's digit for sorting
	own := map[string]map[netip.Addr]Kind{}
	checking := map[string]bool{} // by name and family
	for _, name := range slices.Sorted(maps.Keys(c.services)) {
		object := c.services[name]
		if object.Spec.ClusterIP == "None" || object.Spec.Type == corev1.ServiceTypeExternalName || object.Labels != nil {
			continue
		}
		addresses := [2]map[netip.Addr]Kind{{}, {}}
		enter := func(text string, kind Kind) {
			if addr, err := netip.ParseAddr(text); err == nil && !addr.IsLoopback() {
				if _, known := addresses[FamilyOf(addr)][addr]; !known {
					addresses[FamilyOf(addr)][addr] = kind
				}
			}
		}
		for _, ip := range object.Spec.ClusterIPs {
			enter(ip, ClusterIP)
		}
		served := [2]bool{len(addresses[0]) > 0, len(addresses[1]) > 0}
		for _, i := range object.Status.LoadBalancer.Ingress {
			if i.IPMode == nil || *i.IPMode == corev1.LoadBalancerIPModeVIP {
				enter(i.IP, LoadBalancer)
			}
		}
		for _, ip := range object.Spec.ExternalIPs {
			enter(ip, ExternalIP)
		}
		own[name] = map[netip.Addr]Kind{}
		for family := range served {
			if !served[family] {
				continue
			}
			node := Family(family).unspecified()
			claim := func(at netip.AddrPort, protocol string) {
				key := fmt.Sprint(at, protocol)
				wants[key] = append(wants[key], want{object.CreationTimestamp.Unix(), name})
			}
			taken := map[string]bool{} // node ports of this Service
			for _, port := range object.Spec.Ports {
				protocol, _ := readProtocol(port.Protocol)
				key := PortName{named(name), port.Name, protocol, Family(family)}
				frontends[key] = []string{}
				for addr, kind := range addresses[family] {
					own[name][addr] = kind
					at := netip.AddrPortFrom(addr, uint16(port.Port))
					claim(at, protocol.String())
					frontends[key] = append(frontends[key], fmt.Sprintf("%d %s %s", kind, kind, at))
				}
				if n := fmt.Sprint(port.NodePort, protocol); port.NodePort != 0 && !taken[n] {
					taken[n] = true
					at := netip.AddrPortFrom(node, uint16(port.NodePort))
					claim(at, protocol.String())
					frontends[key] = append(frontends[key], fmt.Sprintf("%d %s %s", NodePort, NodePort, at))
				}
			}
			if n := object.Spec.HealthCheckNodePort; c.checked(name) && !taken[fmt.Sprint(n, TCP)] {
				claim(netip.AddrPortFrom(node, uint16(n)), "TCP")
				checking[name+Family(family).String()] = true
			}
			for addr, kind := range addresses[family] {
				own[name][addr] = kind
			}
		}
	}
	holds := func(name, key string) bool {
		line := wants[key]
		slices.SortFunc(line, func(a, b want) int {
			if a.created != b.created {
				return int(a.created - b.created)
			}
			return strings.Compare(a.name, b.name)
		})
		return len(line) > 0 && line[0].name == name
	}

	checks = map[string]HealthCheck{}
	locals := map[string]map[netip.Addr]bool{}
	for name := range own {
		for family := range Family(2) {
			n := c.services[name].Spec.HealthCheckNodePort
			at := netip.AddrPortFrom(family.unspecified(), uint16(n))
			if key := name + family.String(); checking[key] && holds(name, fmt.Sprint(at, "TCP")) {
				locals[key] = map[netip.Addr]bool{}
				checks[key] = HealthCheck{Port: uint16(n)}
			}
		}
	}
	var b strings.Builder
	for _, key := range slices.SortedFunc(maps.Keys(frontends), PortName.Compare) {
		object := c.services[key.Name]
		p := &Port{}
		endpoints := c.endpoints(key, own[key.Name])
		for at, e := range endpoints {
			if locals[key.Name+key.Family.String()] != nil && conditionsOf(e)[0] && isHere(e) {
				locals[key.Name+key.Family.String()][at.Addr()] = true
			}
		}
		slices.SortFunc(frontends[key], func(a, b string) int {
			return strings.Compare(a[:1], b[:1])*2 + netip.MustParseAddrPort(strings.Fields(a)[2]).Compare(netip.MustParseAddrPort(strings.Fields(b)[2]))
		})
		external, balanced := false, false
		for _, f := range frontends[key] {
			fields := strings.Fields(f)
			at := netip.MustParseAddrPort(fields[2])
			if holds(key.Name, fmt.Sprint(at, key.Protocol.String())) {
				kind := Kind(fields[0][0] - '0')
				external, balanced = external || kind != ClusterIP, balanced || kind == LoadBalancer
				p.Frontends = append(p.Frontends, Frontend{kind, at})
			}
		}
		if len(p.Frontends) == 0 {
			continue
		}
		if object.Spec.InternalTrafficPolicy != nil {
			p.InternalPolicy = Local
		}
		if object.Spec.ExternalTrafficPolicy != "" {
			p.ExternalPolicy = Local
		}
		if object.Annotations[v1alpha2.AnnotationHash] == "source" {
			p.Hash = HashSource
		}
		p.NeedsCluster = p.InternalPolicy == Cluster || external
		p.NeedsLocal = p.InternalPolicy == Local || p.ExternalPolicy == Local && external
		if balanced && key.Family == IPv4 && len(object.Spec.LoadBalancerSourceRanges) > 0 {
			p.SourceRanges = []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}
		}
		c.choose(p, key, endpoints)
		for _, at := range slices.SortedFunc(maps.Keys(endpoints), netip.AddrPort.Compare) {
			w := Weight{at, weightOf(object.Annotations[v1alpha2.AnnotationWeights], at.Addr().String(), endpoints[at])}
			if w.Weight != 1 && (slices.Contains(p.Cluster, at) || slices.Contains(p.Local, at)) {
				p.Weights = append(p.Weights, w)
			}
		}
		fmt.Fprintf(&b, "%s %s\n", key, text(p))
	}
	for key, set := range locals {
		checks[key] = HealthCheck{checks[key].Port, len(set)}
	}
	return b.String(), checks
}

// weightOf looks for each key of an endpoint, the strongest first.
func weightOf(annotation, addr string, e *discoveryv1.Endpoint) int {
	keys := []string{addr, "*"}
	if e.NodeName != nil {
		keys = []string{addr, *e.NodeName, "*"}
	}
	for _, key := range keys {
		for _, entry := range strings.Split(annotation, ",") {
			if value, is := strings.CutPrefix(entry, key+"="); is && len(value) == 1 {
				return int(value[0] - '0')
			}
		}
	}
	return 1
}

// checked tells whether a Service has a health check of its own.
func (c *cluster) checked(name string) bool {
	s := c.services[name]
	return s.Spec.Type == corev1.ServiceTypeLoadBalancer && s.Spec.ExternalTrafficPolicy == corev1.ServiceExternalTrafficPolicyLocal && s.Spec.HealthCheckNodePort != 0
}

// endpoints returns those of a port. The generator makes duplicates that only
// the order of conditions tells apart, so that of State is used.
func (c *cluster) endpoints(key PortName, own map[netip.Addr]Kind) map[netip.AddrPort]*discoveryv1.Endpoint {
	found := map[netip.AddrPort]*discoveryv1.Endpoint{}
	for _, s := range c.slices {
		if s.Labels[discoveryv1.LabelServiceName] != key.Name || string(s.AddressType) != key.Family.String() {
			continue
		}
		if _, headless := s.Labels[corev1.IsHeadlessService]; headless {
			continue
		}
		for _, port := range s.Ports {
			if *port.Name != key.Port || string(*port.Protocol) != key.Protocol.String() {
				continue
			}
			for i := range s.Endpoints {
				e := &s.Endpoints[i]
				addr := netip.MustParseAddr(e.Addresses[0])
				kind, mine := own[addr]
				if addr.IsLoopback() || mine && (kind == ClusterIP || e.NodeName == nil) {
					continue
				}
				at := netip.AddrPortFrom(addr, uint16(*port.Port))
				if other := found[at]; other == nil || believed(e, other) {
					found[at] = e
				}
			}
		}
	}
	return found
}

func believed(e, other *discoveryv1.Endpoint) bool {
	read := func(e *discoveryv1.Endpoint) endpoint {
		s := slice{family: FamilyOf(netip.MustParseAddr(e.Addresses[0]))}
		s.add(e, thisNode)
		return s.endpoints[0]
	}
	return compareEndpoints(read(e), read(other)) < 0
}

// conditionsOf returns ready, serving, terminating.
func conditionsOf(e *discoveryv1.Endpoint) (is [3]bool) {
	is = [3]bool{true, true, false}
	for i, c := range []*bool{e.Conditions.Ready, e.Conditions.Serving, e.Conditions.Terminating} {
		if c != nil {
			is[i] = *c
		}
	}
	return is
}

func isHere(e *discoveryv1.Endpoint) bool { return e.NodeName != nil && *e.NodeName == thisNode }

// choose is the choice of endpoints, one set at a time.
func (c *cluster) choose(p *Port, key PortName, endpoints map[netip.AddrPort]*discoveryv1.Endpoint) {
	all := slices.SortedFunc(maps.Keys(endpoints), netip.AddrPort.Compare)
	filter := func(of []netip.AddrPort, keep func(*discoveryv1.Endpoint) bool) (list []netip.AddrPort) {
		for _, at := range of {
			if keep(endpoints[at]) {
				list = append(list, at)
			}
		}
		return list
	}
	isReady := func(e *discoveryv1.Endpoint) bool { return conditionsOf(e)[0] }
	isFallback := func(e *discoveryv1.Endpoint) bool { return conditionsOf(e) == [3]bool{false, true, true} }
	forNode := func(e *discoveryv1.Endpoint) bool {
		return e.Hints != nil && slices.Contains(e.Hints.ForNodes, discoveryv1.ForNode{Name: thisNode})
	}
	forZone := func(e *discoveryv1.Endpoint) bool {
		return e.Hints != nil && slices.Contains(e.Hints.ForZones, discoveryv1.ForZone{Name: c.zone})
	}
	ready, fallback := filter(all, isReady), filter(all, isFallback)
	p.Usable = len(ready)+len(fallback) > 0
	if p.NeedsCluster {
		noNodes := filter(ready, func(e *discoveryv1.Endpoint) bool { return e.Hints == nil || len(e.Hints.ForNodes) == 0 })
		noZones := filter(ready, func(e *discoveryv1.Endpoint) bool { return e.Hints == nil || len(e.Hints.ForZones) == 0 })
		switch here, near := filter(ready, forNode), filter(ready, forZone); {
		case len(ready) == 0:
			p.Cluster = fallback
		case len(noNodes) == 0 && len(here) > 0:
			p.Cluster = here
		case len(noZones) == 0 && len(near) > 0:
			p.Cluster = near
		default:
			p.Cluster = ready
		}
	}
	if p.NeedsLocal {
		if p.Local = filter(ready, isHere); len(p.Local) == 0 {
			p.Local = filter(fallback, isHere)
		}
	}
	if key.Protocol == UDP {
		p.Serving = filter(all, func(e *discoveryv1.Endpoint) bool { return conditionsOf(e)[0] || conditionsOf(e)[1] })
	}
}
