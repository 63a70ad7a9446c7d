package nftables

import (
	"fmt"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/fairway-lb/fairway/dataplane"
	"github.com/fairway-lb/fairway/dataplane/service"
)

// class is what frontends have in common that share a chain: how to choose
// from how many endpoints, and whose source to translate. The count has to be
// part of it, because a rule can draw from a fixed range only.
type class struct {
	behaviour behaviour
	nodePort  bool // its endpoints are in maps without an address
	cluster   int  // how many endpoints there are for policy Cluster
	local     int  // and for policy Local
	sticky    bool // session affinity

	// hash is how the endpoint follows from the client. If it does, cluster
	// and local are 1 where there are endpoints, and a chain is of one port,
	// whose tables have a number.
	hash   service.Hash
	number int
}

type behaviour uint8

const (
	internal      behaviour = iota + 1 // of a cluster IP
	external                           // of all other frontends, policy Cluster
	externalLocal                      // policy Local
	internalLocal                      // of a cluster IP, policy Local
)

// hashing returns the class of those that choose by a hash instead. They need
// no key of a frontend, and nothing is to be learned.
func (c class) hashing(by service.Hash, number int) class {
	return class{
		behaviour: c.behaviour, hash: by, number: number,
		cluster: min(c.cluster, 1), local: min(c.local, 1),
	}
}

// String returns the name of the chain, as in external-local-c3-l1, or in
// external-source-7 for the port whose tables are the seventh.
func (c class) String() string {
	var b strings.Builder
	if c.nodePort {
		b.WriteString("nodeport-")
	}
	b.WriteString([...]string{"", "internal", "external", "external-local", "internal-local"}[c.behaviour])
	if c.hash != service.HashNone {
		fmt.Fprintf(&b, "-%s-%d", c.hash, c.number)
		if c.behaviour == externalLocal && c.local == 0 {
			b.WriteString("-l0")
		}
		return b.String()
	}
	if c.behaviour != internalLocal {
		fmt.Fprintf(&b, "-c%d", c.cluster)
	}
	if c.behaviour == internalLocal || c.behaviour == externalLocal {
		fmt.Fprintf(&b, "-l%d", c.local)
	}
	if c.sticky {
		b.WriteString("-sticky")
	}
	return b.String()
}

// addTo puts the chain and its rules into a batch.
func (c class) addTo(b *batch, family service.Family, config *dataplane.Config) {
	chain := c.String()
	b.addChain(family, chain)
	pods := config.Pods.Of(family)
	start := func() *rule { return b.rule(family) }
	switch c.behaviour {
	case internal, internalLocal:
		switch {
		case config.MasqueradeAll:
			b.addRule(chain, start().mark(config.MasqueradeMark))
		case !pods.None():
			// Others have come this way by a route, and the answer of a
			// remote endpoint would not come back by it.
			b.addRule(chain, fromOthers(start(), pods).mark(config.MasqueradeMark))
		}
		c.forward(b, chain, start, c.behaviour == internalLocal)
	case external:
		b.addRule(chain, start().mark(config.MasqueradeMark))
		c.forward(b, chain, start, false)
	case externalLocal:
		// What comes from this node goes by policy Cluster, as if it had left
		// the node and come back by another.
		if !pods.None() {
			c.forward(b, chain, func() *rule { return fromPods(start(), pods) }, false)
		}
		local := func() *rule { return start().fib(unix.NFTA_FIB_F_SADDR).mark(config.MasqueradeMark) }
		c.forward(b, chain, local, false)
		if c.local == 0 {
			b.addRule(chain, start().verdict(dropped))
			return
		}
		c.forward(b, chain, start, true)
	}
}

// forward adds rules that translate the destination of what start lets pass.
func (c class) forward(b *batch, chain string, start func() *rule, local bool) {
	if c.hash != service.HashNone {
		b.addRule(chain, start().protocols().hash(c.hash, offset(c.number, local)).find(hashedSet).dnat())
		return
	}
	count, endpoints, affinity := c.cluster, endpointsSet, affinitySet
	if local {
		count, endpoints = c.local, localEndpointsSet
	}
	if c.nodePort {
		endpoints, affinity = nodePortSetOf[endpoints], nodePortAffinitySet
	}
	if c.sticky {
		r := start().protocols()
		r.saddr(reg0)
		c.frontend(r, reg0+r.width())
		b.addRule(chain, r.find(affinity).dnat())
	}
	r := start().protocols()
	next := c.frontend(r, reg0)
	b.addRule(chain, r.draw(count, next).find(endpoints).dnat())
}

// frontend loads the key of a frontend, and returns the register after it.
func (c class) frontend(r *rule, reg uint32) uint32 {
	if !c.nodePort {
		r.daddr(reg)
		reg += r.width()
	}
	r.l4proto(reg).dport(reg + 1)
	return reg + 2
}

// fromPods goes on if the packet is from a local pod.
func fromPods(r *rule, d dataplane.Detector) *rule {
	if len(d.CIDRs) > 0 {
		return r.saddr(reg0).in(podsSet)
	}
	return compareLink(r, d, unix.NFT_CMP_EQ)
}

// fromOthers goes on if the packet is from anywhere else.
func fromOthers(r *rule, d dataplane.Detector) *rule {
	if len(d.CIDRs) > 0 {
		return r.saddr(reg0).notIn(podsSet)
	}
	return compareLink(r, d, unix.NFT_CMP_NEQ)
}

func compareLink(r *rule, d dataplane.Detector, op uint32) *rule {
	if d.Bridge != "" {
		name := make([]byte, unix.IFNAMSIZ)
		copy(name, d.Bridge)
		return r.meta(unix.NFT_META_IIFNAME, reg0).cmp(op, reg0, name)
	}
	return r.meta(unix.NFT_META_IIFNAME, reg0).cmp(op, reg0, []byte(d.InterfacePrefix))
}
