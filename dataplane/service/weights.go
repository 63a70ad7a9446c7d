package service

import (
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"k8s.io/apimachinery/pkg/util/validation"
)

// defaultWeight is that of an endpoint that no weight is given to.
const defaultWeight = 1

// maxWeight is where ipvsadm(8) ends too. The kernel takes any int, but wide
// ones add nothing: mh, for one, has a table of at most 65,521 places to divide.
const maxWeight = 65535

// weights are what a Service says in its annotation of the weights of its
// endpoints, whichever these are. The zero value says nothing.
type weights struct {
	addresses map[netip.Addr]int
	nodes     map[node]int // that of everywhere is for all others
}

// everywhere is what * stands for.
var everywhere node

// weights reads the annotation. Parts that are wrong, or come twice, are found
// and the others count.
func (r specReader) weights(text string) {
	for part := range strings.SplitSeq(text, ",") {
		if part = strings.TrimSpace(part); part == "" {
			continue
		}
		key, value, _ := strings.Cut(part, "=")
		weight, err := strconv.ParseUint(strings.TrimSpace(value), 10, 64)
		if err != nil || weight > maxWeight {
			r.find(ReasonWeight, quotable(part))
			continue
		}
		switch key = strings.TrimSpace(key); r.spec.weights.enter(key, int(weight)) {
		case keyWrong:
			r.find(ReasonWeight, quotable(part))
		case keyTwice:
			r.find(ReasonWeightTwice, quotable(key))
		}
	}
}

// keyed is what becomes of a key.
type keyed uint8

const (
	keyEntered keyed = iota
	keyWrong         // neither an address nor a node nor *
	keyTwice         // the first stays
)

func (w *weights) enter(key string, weight int) keyed {
	if key == "*" {
		return enter(&w.nodes, everywhere, weight)
	}
	addr, flaw := readAddr(key)
	result := keyWrong
	if flaw == flawNone {
		if result = enter(&w.addresses, addr, weight); result == keyTwice {
			return result
		}
	}
	// A node may be named like an address, even one that no endpoint can have.
	if len(validation.IsDNS1123Subdomain(key)) == 0 {
		result = enter(&w.nodes, nodeNamed(key), weight)
	}
	return result
}

func enter[K comparable](m *map[K]int, key K, weight int) keyed {
	if _, there := (*m)[key]; there {
		return keyTwice
	}
	if *m == nil {
		*m = map[K]int{}
	}
	(*m)[key] = weight
	return keyEntered
}

// of returns the weight of an endpoint. An address says more than a node.
func (w *weights) of(e *endpoint) int {
	if weight, set := w.addresses[e.addr]; set {
		return weight
	}
	if weight, set := w.nodes[e.node]; set {
		return weight
	}
	if weight, set := w.nodes[everywhere]; set {
		return weight
	}
	return defaultWeight
}

func (w *weights) none() bool { return len(w.addresses) == 0 && len(w.nodes) == 0 }

func (w *weights) equal(other *weights) bool {
	return maps.Equal(w.addresses, other.addresses) && maps.Equal(w.nodes, other.nodes)
}

// weigh collects the weights of the endpoints that were chosen.
func (c *choice) weigh(w *weights) {
	if w.none() {
		return
	}
	for _, e := range c.candidates {
		if weight := w.of(e.endpoint); weight != defaultWeight && (contains(c.cluster, e.at) || contains(c.local, e.at)) {
			c.weights = append(c.weights, Weight{e.at, weight})
		}
	}
}

func contains(sorted []netip.AddrPort, at netip.AddrPort) bool {
	_, found := slices.BinarySearchFunc(sorted, at, netip.AddrPort.Compare)
	return found
}
