package sysctl

import (
	"path"
	"strings"
	"time"
)

// Options are what the settings of a node depend on besides the node.
type Options struct {
	// IPv6 says that Services have addresses of IPv6.
	IPv6 bool
	// LocalhostNodePorts lets a NodePort be reached on 127.0.0.1, and with that
	// packets from 127.0.0.0/8 leave the node, and such to it come in: rules
	// have to drop those that no rule translated (CVE-2020-8558).
	LocalhostNodePorts bool
	// TCPBeLiberal lets conntrack take all but resets outside of the window for
	// part of a connection.
	TCPBeLiberal bool
	// UDPTimeout is how long a UDP flow without an answer is remembered, and
	// UDPStreamTimeout one in both directions. 0 leaves the kernel's. They are
	// rounded up to seconds.
	UDPTimeout, UDPStreamTimeout time.Duration
	// IPVS says that packets are forwarded by IPVS, with addresses of Services
	// on a link of the node.
	IPVS bool
}

// Setting is a number that the kernel is to have.
type Setting struct {
	// Path is that of the file that has it, without the "/" it begins with.
	Path string
	// Value is what it is to be, in the unit of the file.
	Value int
	// AtLeast says that more is as good, so that it is never lowered.
	AtLeast bool
	// Or are other values that will do.
	Or []int
	// Required says that the proxy does not work without. Of others it is
	// enough to warn.
	Required bool
	// IfThere says that a kernel which has no such setting needs none: of a
	// family that the node does not have, or of a link that has gone.
	IfThere bool
	// Needs is the path of a setting without which this one does harm. It
	// comes first, and this one only if that one is as it should be.
	Needs string
	// Why says what does not work without it.
	Why string
	// Module is the kernel module that brings it.
	Module string
}

// sysctls is where the files of sysctl(8) are.
const sysctls = "proc/sys/"

// Name returns the setting as sysctl(8) names it, or the file, if that is none
// of its. The name of a link may have dots: then slashes part the others.
func (s Setting) Name() string {
	name, ok := strings.CutPrefix(s.Path, sysctls)
	switch {
	case !ok:
		return "/" + s.Path
	case strings.Contains(name, "."):
		return name
	}
	return strings.ReplaceAll(name, "/", ".")
}

// good tells whether a value is what is wanted.
func (s Setting) good(value int) bool {
	for _, v := range s.Or {
		if value == v {
			return true
		}
	}
	return value == s.Value || s.AtLeast && value > s.Value
}

// How many connections conntrack has room for. An entry takes some 300 bytes.
const (
	conntrackPerCPU = 32 << 10
	conntrackFloor  = 128 << 10
	// conntrackCap keeps a node of hundreds of CPUs from spending gigabytes.
	conntrackCap = 1 << 20
	// conntrackPerBucket is the length of lists in a table that is full. It is
	// the kernel's, of before 5.15.
	conntrackPerBucket = 4
)

// How long conntrack remembers connections of TCP, in seconds.
const (
	// establishedTimeout is a fifth of the kernel's: five days of connections
	// that nobody closed fill the table.
	establishedTimeout = 24 * 60 * 60
	// closeWaitTimeout is 60 times the kernel's. A server may take long to
	// close its end (kubernetes/kubernetes#32551), and what it sends then has
	// to be translated still.
	closeWaitTimeout = 60 * 60
)

// Wanted returns the settings of a node in the order in which they are to be
// made.
func Wanted(node Node, o Options) (settings []Setting) {
	const conntrack = sysctls + "net/netfilter/nf_conntrack_"
	add := func(s Setting) { settings = append(settings, s) }

	add(Setting{Path: sysctls + "net/ipv4/ip_forward", Value: 1, Required: true,
		Why: "no packet reaches a pod without"})
	if o.IPv6 {
		settings = append(settings, forwardIPv6(node)...)
	}

	room := min(max(node.CPUs*conntrackPerCPU, conntrackFloor), conntrackCap)
	add(Setting{Path: conntrack + "max", Value: room, AtLeast: true, Module: "nf_conntrack",
		Why: "when the table of connections is full, new ones are dropped"})
	add(Setting{Path: "sys/module/nf_conntrack/parameters/hashsize", Value: room / conntrackPerBucket, AtLeast: true, Module: "nf_conntrack",
		Why: "packets are slow when many connections share a bucket"})
	for _, s := range []struct {
		name  string
		value int
		why   string
	}{
		{"tcp_timeout_established", establishedTimeout, "connections that nobody closed fill the table"},
		{"tcp_timeout_close_wait", closeWaitTimeout, "servers that close late lose their connections"},
		{"udp_timeout", seconds(o.UDPTimeout), "it is configured so"},
		{"udp_timeout_stream", seconds(o.UDPStreamTimeout), "it is configured so"},
	} {
		if s.value > 0 {
			add(Setting{Path: conntrack + s.name, Value: s.value, Module: "nf_conntrack", Why: s.why})
		}
	}
	if o.TCPBeLiberal {
		add(Setting{Path: conntrack + "tcp_be_liberal", Value: 1, Module: "nf_conntrack", Why: "it is configured so"})
	}
	if o.LocalhostNodePorts {
		add(Setting{Path: sysctls + "net/ipv4/conf/all/route_localnet", Value: 1,
			Why: "NodePorts cannot be reached on 127.0.0.1"})
	}
	if o.IPVS {
		settings = append(settings, forIPVS(node)...)
	}
	return settings
}

// forwardIPv6 returns what lets the node forward IPv6. A link that forwards
// listens to routers only with accept_ra=2, and the kernel forgets at once what
// it has learned on others: a router is no host. So that the node keeps its default route, links that have one from a router are set to 2
// first, and if that fails, it does not forward.
//
// On a link that learns one later it is for who configures the link to do so.
func forwardIPv6(node Node) (settings []Setting) {
	forward := Setting{Path: sysctls + "net/ipv6/conf/all/forwarding", Value: 1, Required: true, IfThere: true,
		Why: "no packet of IPv6 reaches a pod without"}
	for _, link := range node.Learned {
		accept := Setting{
			Path: path.Join(sysctls, "net/ipv6/conf", link, "accept_ra"), Value: 2, Required: true, IfThere: true,
			Or:  []int{0}, // it does not learn routes any more
			Why: "the node would lose its default route of IPv6 when it forwards", Needs: forward.Needs,
		}
		settings = append(settings, accept)
		forward.Needs = accept.Path
	}
	return append(settings, forward)
}

// forIPVS returns what IPVS needs, and a link with addresses of Services.
func forIPVS(node Node) []Setting {
	const vs, all = sysctls + "net/ipv4/vs/", sysctls + "net/ipv4/conf/all/"
	settings := []Setting{
		{Path: vs + "conntrack", Value: 1, Required: true, Module: "ip_vs",
			Why: "what IPVS forwards is not masqueraded"},
		{Path: vs + "expire_nodest_conn", Value: 1, Module: "ip_vs",
			Why: "connections to an endpoint that is gone hang"},
		{Path: vs + "expire_quiescent_template", Value: 1, Module: "ip_vs",
			Why: "clients with session affinity go on to an endpoint that is gone"},
		// The largest of it and the link's is what counts. 2 answers still less.
		{Path: all + "arp_ignore", Value: 1, Or: []int{2}, Required: true,
			Why: "every node would answer ARP for the addresses of Services"},
		{Path: all + "arp_announce", Value: 2, Required: true,
			Why: "every node would announce the addresses of Services as its own"},
	}
	// Since 4.1 there is the mode, and until 5.8 a client that uses a port again
	// waits for a second in all others (kubernetes/kubernetes#93297).
	if node.Kernel.atLeast(4, 1) && !node.Kernel.atLeast(5, 9) {
		settings = append(settings, Setting{Path: vs + "conn_reuse_mode", Value: 0, Module: "ip_vs",
			Why: "a client that uses a port again waits for a second"})
	}
	return settings
}

// seconds returns a duration in seconds, and any at all as one at least.
func seconds(d time.Duration) int {
	return int((max(d, 0) + time.Second - 1) / time.Second)
}
