package iptables

import (
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/fairway-lb/fairway/dataplane"
	"github.com/fairway-lb/fairway/dataplane/service"
)

// sink takes the rules of a port: a chain of its own, or some of those that a
// bucket has under a key, perhaps the same as for other ports.
type sink interface {
	chain(table int, name, rules string)
	item(table int, to bucket, key, rules string)
}

// Chains of a port, by the digest of its name.
const (
	clusterChain  = prefix + "SVC-" // to one of the endpoints of policy Cluster
	localChain    = prefix + "LOC-" // of policy Local
	externalChain = prefix + "EXT-" // from outside of the cluster
	rangesChain   = prefix + "SRC-" // the clients that may use load-balancer addresses
)

// portRules hands all rules of a port to a sink.
func portRules(name service.PortName, p *service.Port, config *dataplane.Config, to sink) {
	if p == nil {
		return
	}
	g := &generator{name: name, port: p, config: config, id: digest(name.String()), sink: to}
	g.pods = config.Pods.Of(name.Family)
	for _, f := range p.Frontends {
		g.frontend(f)
	}
	g.ownChains()
	var last netip.Addr
	for _, e := range slices.SortedFunc(slices.Values(slices.Concat(p.Cluster, p.Local)), netip.AddrPort.Compare) {
		if a := e.Addr(); a != last {
			last = a
			to.item(nat, hairpinsTree.ofAddr(a), a.String(), source(single(a))+destination(single(a))+masquerade)
		}
	}
}

type generator struct {
	name   service.PortName
	port   *service.Port
	config *dataplane.Config
	pods   dataplane.Detector
	id     string
	sink

	usesCluster, usesLocal, usesExternal, usesRanges bool
}

// frontend hands on what leads to the chains of the port, and in filter what
// becomes of connections that stay as they are.
func (g *generator) frontend(f service.Frontend) {
	port := strconv.Itoa(int(f.Address.Port()))
	match := ports(g.name.Protocol, port)
	natBucket := nodePortsTree.ofPort(g.name.Family, g.name.Protocol, f.Address.Port())
	filterBucket, key := natBucket, port
	if f.Kind != service.NodePort {
		addr := f.Address.Addr()
		match = destination(single(addr)) + match
		natBucket, filterBucket = servicesTree.ofAddr(addr), verdictsTree.ofAddr(addr)
		key = addr.String() + " " + g.name.Protocol.String() + " " + port
		if f.Kind == service.ClusterIP {
			// Of a cluster IP, all that is not a port of a Service.
			g.item(filter, filterBucket, after+addr.String(), destination(single(addr))+proceed(refuseChain))
		}
	}
	verdict := g.verdict(f.Kind)
	g.item(nat, natBucket, key, g.translate(f.Kind, verdict, match))
	if rules := g.filter(f.Kind, verdict, match); rules != "" {
		g.item(filter, filterBucket, key, rules)
	}
}

// verdict is what happens to connections to a frontend, those from outside to
// one of policy Local aside.
func (g *generator) verdict(kind service.Kind) service.Verdict {
	p := g.port
	if kind == service.ClusterIP || p.ExternalPolicy != service.Local {
		_, v := p.Choose(kind)
		return v
	}
	switch {
	case !p.Usable && len(p.Cluster) == 0 && len(p.Local) == 0:
		return service.Reject
	case len(p.Cluster) == 0:
		// Topology hints cannot do that: whatever is local is in both.
		return service.Drop
	}
	return service.Forward
}

func (g *generator) restricted(kind service.Kind) bool {
	return kind == service.LoadBalancer && len(g.port.SourceRanges) > 0
}

// translate returns the rules of a frontend in nat.
func (g *generator) translate(kind service.Kind, v service.Verdict, match string) string {
	switch {
	case v != service.Forward:
		return match + accept // nothing else is to translate it
	case kind == service.ClusterIP:
		rules := ""
		switch {
		case g.config.MasqueradeAll:
			rules = match + jump(markChain)
		case !g.pods.None():
			// Others have come this way by a route, and the answer of a
			// remote endpoint would not come back by it.
			rules = match + jump(markOthersChain)
		}
		if g.port.InternalPolicy == service.Local {
			g.usesLocal = true
			return rules + match + proceed(localChain+g.id)
		}
		g.usesCluster = true
		return rules + match + proceed(clusterChain+g.id)
	case g.restricted(kind):
		g.usesRanges, g.usesExternal = true, true
		return match + proceed(rangesChain+g.id)
	case g.port.ExternalPolicy == service.Local:
		g.usesExternal = true
		return match + proceed(externalChain+g.id)
	}
	g.usesCluster = true
	return match + jump(markChain) + match + proceed(clusterChain+g.id)
}

// filter returns the rules of a frontend in filter, where only connections come
// that were not translated.
func (g *generator) filter(kind service.Kind, v service.Verdict, match string) string {
	switch {
	case v == service.Reject && g.restricted(kind):
		var b strings.Builder
		for _, r := range g.port.SourceRanges {
			b.WriteString(source(r) + match + proceed(refuseChain))
		}
		return b.String() + match + drop
	case v == service.Reject:
		return match + proceed(refuseChain)
	case v == service.Drop, g.restricted(kind),
		kind != service.ClusterIP && g.port.ExternalPolicy == service.Local && len(g.port.Local) == 0:
		return match + drop
	}
	return ""
}

// ownChains hands on the chains that frontends lead to.
func (g *generator) ownChains() {
	p := g.port
	if g.usesRanges {
		g.chain(nat, rangesChain+g.id, g.ranges())
	}
	if g.usesExternal {
		g.usesCluster = true
		rules := jump(markChain) + proceed(clusterChain+g.id)
		if p.ExternalPolicy == service.Local {
			rules = g.externalLocal()
		}
		g.chain(nat, externalChain+g.id, rules)
	}
	if g.usesCluster {
		g.chain(nat, clusterChain+g.id, choose(g.name, p, p.Cluster))
	}
	if g.usesLocal {
		g.chain(nat, localChain+g.id, choose(g.name, p, p.Local))
	}
}

// externalLocal has what comes from this node go by policy Cluster, as if it
// had left the node and come back by another.
func (g *generator) externalLocal() string {
	cluster := proceed(clusterChain + g.id)
	var b strings.Builder
	for _, match := range fromPods(g.pods) {
		b.WriteString(match + cluster)
	}
	b.WriteString(fromNode + jump(markChain) + fromNode + cluster)
	if len(g.port.Local) == 0 {
		return b.String() + accept // and filter drops it
	}
	g.usesLocal = true
	return b.String() + proceed(localChain+g.id)
}

// ranges lets those pass that may use load-balancer addresses; filter drops all
// others.
func (g *generator) ranges() string {
	var b strings.Builder
	external := proceed(externalChain + g.id)
	node := false
	for _, r := range g.port.SourceRanges {
		b.WriteString(source(r) + external)
		node = node || slices.ContainsFunc(g.config.NodeAddresses, r.Contains)
	}
	for _, f := range g.port.Frontends {
		// A process of the node has the address as its source where that is
		// the node's.
		if vip := single(f.Address.Addr()); node && f.Kind == service.LoadBalancer {
			b.WriteString(source(vip) + destination(vip) + external)
		}
	}
	return b.String() + accept
}
