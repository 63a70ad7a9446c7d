package service

import (
	"cmp"
	"iter"
	"maps"
	"slices"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/types"
)

// State is what all Services and EndpointSlices mean on one node. It keeps
// nothing of the objects but what it needs, and is for one goroutine.
type State struct {
	node     string
	zone     string
	services map[types.NamespacedName]*entry // with a Service, or slices of one
	slices   map[types.NamespacedName]*entry // by the name of an EndpointSlice
	zoned    map[*entry]struct{}             // with hints for zones
	claims   claims
	dirty    []*entry // since the last Changes
	// What follows is memory for a while.
	draft    draft
	keys     []frontendKey
	previous []frontendKey
}

// entry is one Service and its slices, either of which may come first and go
// last.
type entry struct {
	name   types.NamespacedName
	spec   *spec    // nil while there is no Service that is ours to serve
	slices []*slice // sorted by name
	dirty  bool
	told
}

// told is what Changes has returned of a Service.
type told struct {
	ports    []toldPort // sorted
	checks   []toldCheck
	findings []Finding // sorted
}

// NewState returns the state of the node of that name, without any Service.
func NewState(node string) *State {
	return &State{
		node:     node,
		services: map[types.NamespacedName]*entry{},
		slices:   map[types.NamespacedName]*entry{},
		zoned:    map[*entry]struct{}{},
		claims: claims{
			holders:    map[frontendKey]*entry{},
			contenders: map[frontendKey][]*entry{},
		},
	}
}

// SetService takes a Service as it is now.
func (s *State) SetService(svc *corev1.Service) {
	s.setSpec(types.NamespacedName{Namespace: svc.Namespace, Name: svc.Name}, readService(svc))
}

// DeleteService takes a Service away. Its slices stay until they are deleted.
func (s *State) DeleteService(name types.NamespacedName) {
	s.setSpec(name, nil)
}

// SetEndpointSlice takes an EndpointSlice as it is now. Which Service it
// belongs to is for its label kubernetes.io/service-name to say, and may
// change.
func (s *State) SetEndpointSlice(object *discoveryv1.EndpointSlice) {
	name := types.NamespacedName{Namespace: object.Namespace, Name: object.Name}
	owner := types.NamespacedName{Namespace: object.Namespace, Name: object.Labels[discoveryv1.LabelServiceName]}
	read := readSlice(object, s.node)
	if read == nil || owner.Name == "" {
		s.DeleteEndpointSlice(name)
		return
	}
	if before := s.slices[name]; before != nil && before.name != owner {
		s.DeleteEndpointSlice(name)
	}
	e := s.entry(owner)
	s.slices[name] = e
	i, found := slices.BinarySearchFunc(e.slices, name.Name, compareSlice)
	switch {
	case !found:
		e.slices = slices.Insert(e.slices, i, read)
	case e.slices[i].equal(read):
		return
	default:
		e.slices[i] = read
	}
	s.slicesChanged(e)
}

// DeleteEndpointSlice takes an EndpointSlice away.
func (s *State) DeleteEndpointSlice(name types.NamespacedName) {
	e := s.slices[name]
	if e == nil {
		return
	}
	delete(s.slices, name)
	if i, found := slices.BinarySearchFunc(e.slices, name.Name, compareSlice); found {
		e.slices = slices.Delete(e.slices, i, i+1)
	}
	s.slicesChanged(e)
}

// SetNode takes this Node as it is now: its label topology.kubernetes.io/zone
// matters. Other Nodes are passed over.
func (s *State) SetNode(node *corev1.Node) {
	if node.Name != s.node || node.Labels[corev1.LabelTopologyZone] == s.zone {
		return
	}
	s.zone = node.Labels[corev1.LabelTopologyZone]
	for e := range s.zoned {
		s.touch(e)
	}
}

// Changes returns what has changed since the last call. What changed and
// changed back is not in it.
func (s *State) Changes() Changes {
	slices.SortFunc(s.dirty, func(a, b *entry) int { return compareNames(a.name, b.name) })
	var c Changes
	for i, e := range s.dirty {
		s.dirty[i], e.dirty = nil, false
		s.decide(e)
		c.add(e, &s.draft)
		if e.spec == nil && len(e.slices) == 0 {
			delete(s.services, e.name)
		}
	}
	s.dirty = s.dirty[:0]
	return c
}

// Ports returns all ports as of the last Changes, sorted by name: what a
// backend that lost track of the kernel makes it equal to.
func (s *State) Ports() iter.Seq2[PortName, *Port] {
	return func(yield func(PortName, *Port) bool) {
		for _, name := range slices.SortedFunc(maps.Keys(s.services), compareNames) {
			for _, p := range s.services[name].ports {
				if !yield(p.of(name), p.port) {
					return
				}
			}
		}
	}
}

func (s *State) setSpec(name types.NamespacedName, next *spec) {
	e := s.services[name]
	if e == nil && next == nil || e != nil && e.spec.equal(next) {
		return
	}
	if e == nil {
		e = s.entry(name)
	}
	s.previous, s.keys = s.previous[:0], s.keys[:0]
	if e.spec != nil {
		s.previous = e.spec.appendFrontends(s.previous)
	}
	if next != nil {
		s.keys = next.appendFrontends(s.keys)
	}
	if e.spec == nil || next == nil || e.spec.created != next.created || !slices.Equal(s.previous, s.keys) {
		s.touch(s.claims.release(e, s.previous)...)
		e.spec = next
		s.touch(s.claims.claim(e, s.keys)...)
	}
	e.spec = next
	s.touch(e)
}

// slicesChanged follows from a change of an entry's slices.
func (s *State) slicesChanged(e *entry) {
	if slices.ContainsFunc(e.slices, func(s *slice) bool { return s.zoned }) {
		s.zoned[e] = struct{}{}
	} else {
		delete(s.zoned, e)
	}
	s.touch(e)
}

func (s *State) entry(name types.NamespacedName) *entry {
	e := s.services[name]
	if e == nil {
		e = &entry{name: name}
		s.services[name] = e
	}
	return e
}

func (s *State) touch(entries ...*entry) {
	for _, e := range entries {
		if !e.dirty {
			e.dirty = true
			s.dirty = append(s.dirty, e)
		}
	}
}

func compareSlice(s *slice, name string) int { return cmp.Compare(s.name, name) }
