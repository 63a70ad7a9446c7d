package healthcheck

import (
	"context"
	"fmt"
	"maps"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"k8s.io/apimachinery/pkg/types"

	"github.com/fairway-lb/fairway/dataplane/service"
)

// A port that cannot be opened is tried again after minBackoff, and then after
// twice as long each time, up to maxBackoff.
const (
	minBackoff = time.Second
	maxBackoff = time.Minute
)

// Clients are load balancers, but anyone can connect. One that neither asks nor
// listens is let go.
const (
	requestTimeout = 10 * time.Second
	idleTimeout    = 2 * time.Minute
	// drainTimeout is how long requests in flight may last on a port that is
	// closed.
	drainTimeout = 5 * time.Second
	maxHeader    = 64 << 10 // bytes
)

// Config is what NodePorts needs to know.
type Config struct {
	// Addresses are those of this node that the ports are served on. None
	// means all, of both families and also those that the node gets later.
	Addresses []netip.Addr
	// Healthy tells whether the service proxy works; see Proxy.Healthy. It is
	// called by several goroutines at once.
	Healthy func() bool
	// Report is told of each port that cannot be served, once for as long as
	// the reason is the same. It is called by Apply. nil reports nothing.
	Report func(Failure)
}

// NodePorts serves health-check node ports. Its methods are for one goroutine.
type NodePorts struct {
	config Config
	ports  map[uint16]*port
	// dirty are the ports to look at: with changes, or not open yet.
	dirty map[uint16]struct{}
	// draining are ports that are closed, but have requests in flight.
	draining sync.WaitGroup
}

// NewNodePorts returns a server of no ports.
func NewNodePorts(config Config) *NodePorts {
	n := &NodePorts{config: config, ports: map[uint16]*port{}, dirty: map[uint16]struct{}{}}
	n.SetAddresses(config.Addresses)
	return n
}

// SetAddresses replaces Config.Addresses as of the next Apply.
func (n *NodePorts) SetAddresses(addresses []netip.Addr) {
	if len(addresses) == 0 {
		addresses = []netip.Addr{{}}
	}
	n.config.Addresses = make([]netip.Addr, len(addresses))
	for i, a := range addresses {
		n.config.Addresses[i] = a.Unmap()
	}
	for number, p := range n.ports {
		p.retryAt = time.Time{} // what it waits for may be over
		n.dirty[number] = struct{}{}
	}
}

// Apply makes the changes and opens and closes only the ports that they
// concern. A port that could not be opened is tried again with back-off: then
// Apply is to be called again at the time that it returns, with further
// changes or none. The zero time means that nothing waits.
func (n *NodePorts) Apply(changes []service.HealthCheckChange, now time.Time) (again time.Time) {
	// What goes away goes first, so that one Service can have the port that
	// another gives up.
	for _, c := range changes {
		if c.Before == nil {
			continue
		}
		if p := n.ports[c.Before.Port]; p != nil {
			p.clear(c.Family, c.Service)
			n.dirty[c.Before.Port] = struct{}{}
		}
	}
	for _, c := range changes {
		if c.After == nil {
			continue
		}
		p := n.ports[c.After.Port]
		if p == nil {
			p = newPort(c.After.Port, n.config.Healthy)
			n.ports[c.After.Port] = p
		}
		p.answers[c.Family] = answer{c.Service, c.After.LocalEndpoints, true}
		n.dirty[c.After.Port] = struct{}{}
	}
	for _, number := range slices.Sorted(maps.Keys(n.dirty)) {
		p := n.ports[number]
		if p.answers == (answers{}) {
			n.close(p)
			continue
		}
		p.publish()
		switch retry := n.open(p, now); {
		case retry.IsZero():
			delete(n.dirty, number)
		case again.IsZero() || retry.Before(again):
			again = retry
		}
	}
	return again
}

// Close closes all ports, and waits until the requests in flight are answered
// or the context is done.
func (n *NodePorts) Close(ctx context.Context) error {
	for _, p := range n.ports {
		n.close(p)
	}
	drained := make(chan struct{})
	go func() {
		n.draining.Wait()
		close(drained)
	}()
	select {
	case <-drained:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("wait for the last answers on health-check node ports: %w", ctx.Err())
	}
}

// open has a port listen on what it is to listen on, and returns when to try
// again.
func (n *NodePorts) open(p *port, now time.Time) time.Time {
	for address, l := range p.listeners {
		if !slices.Contains(n.config.Addresses, address) {
			_ = l.Close() // nothing to be done about it
			delete(p.listeners, address)
		}
	}
	maps.DeleteFunc(p.reported, func(a netip.Addr, _ string) bool { return !slices.Contains(n.config.Addresses, a) })
	missing := slices.DeleteFunc(slices.Clone(n.config.Addresses), func(a netip.Addr) bool { return p.listeners[a] != nil })
	if len(missing) == 0 {
		p.recovered()
		return time.Time{}
	}
	if now.Before(p.retryAt) {
		return p.retryAt
	}
	for _, address := range missing {
		err := p.listen(address)
		switch {
		case err == nil:
			delete(p.reported, address)
		case p.reported[address] != err.Error():
			p.reported[address] = err.Error()
			if n.config.Report != nil {
				n.config.Report(Failure{Service: p.answers.first().service, Port: p.number, Address: address, Err: err})
			}
		}
	}
	if len(p.reported) == 0 {
		p.recovered()
		return time.Time{}
	}
	p.backoff = min(max(2*p.backoff, minBackoff), maxBackoff)
	p.retryAt = now.Add(p.backoff)
	return p.retryAt
}

// close frees the port at once. What is in flight goes on for drainTimeout.
func (n *NodePorts) close(p *port) {
	delete(n.ports, p.number)
	delete(n.dirty, p.number)
	for _, l := range p.listeners {
		_ = l.Close() // nothing to be done about it
	}
	n.draining.Go(func() {
		ctx, cancel := context.WithTimeout(context.Background(), drainTimeout)
		defer cancel()
		if p.server.Shutdown(ctx) != nil {
			_ = p.server.Close() // cuts off who does not take the answer
		}
	})
}

// port is one node port, on all its addresses.
type port struct {
	number    uint16
	answers   answers
	published atomic.Pointer[answers]
	healthy   func() bool
	server    *http.Server
	listeners map[netip.Addr]net.Listener // by address, the zero one for all
	reported  map[netip.Addr]string       // why there is no listener
	backoff   time.Duration               // the last
	retryAt   time.Time
}

// answers are what a port answers in each family. Different Services can have
// it: what one family knows of, the other does not claim.
type answers [2]answer

// answer is that of one family. The zero answer is none.
type answer struct {
	service        types.NamespacedName
	localEndpoints int
	set            bool
}

// first returns the answer of the first family that has one.
func (a *answers) first() answer {
	if a[service.IPv4].set {
		return a[service.IPv4]
	}
	return a[service.IPv6]
}

func newPort(number uint16, healthy func() bool) *port {
	p := &port{
		number:    number,
		healthy:   healthy,
		listeners: map[netip.Addr]net.Listener{},
		reported:  map[netip.Addr]string{},
	}
	p.server = &http.Server{
		Handler:           p,
		ReadHeaderTimeout: requestTimeout,
		ReadTimeout:       requestTimeout,
		WriteTimeout:      requestTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeader,
	}
	return p
}

// clear takes away the answer of a Service, unless another has the port.
func (p *port) clear(family service.Family, name types.NamespacedName) {
	if p.answers[family].service == name {
		p.answers[family] = answer{}
	}
}

func (p *port) publish() {
	was := p.published.Load()
	if was != nil && *was == p.answers {
		return
	}
	if was != nil && was.first().service != p.answers.first().service {
		clear(p.reported) // to another Service
	}
	p.published.Store(new(p.answers))
}

func (p *port) recovered() {
	clear(p.reported)
	p.backoff, p.retryAt = 0, time.Time{}
}

// listen serves on an address, or with the zero one on all: one socket for
// both families where the node has IPv6.
func (p *port) listen(address netip.Addr) error {
	host := ""
	if address.IsValid() {
		host = address.String()
	}
	l, err := net.Listen("tcp", net.JoinHostPort(host, strconv.Itoa(int(p.number))))
	if err != nil {
		return err
	}
	p.listeners[address] = l
	// It ends when the listener is closed, and not before: net/http waits and
	// goes on after what else can go wrong.
	go func() { _ = p.server.Serve(l) }()
	return nil
}

// ServeHTTP answers a request for any path by any method. kube-proxy has a
// server for each family, which counts the endpoints of that family alone; so
// the answer is that of the family that the request came by. In a family that
// the Service has no check in, there are none.
func (p *port) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	a := p.published.Load()
	told := a[familyOf(r)]
	if !told.set {
		told = answer{service: a.first().service}
	}
	healthy := p.healthy()
	header(w)
	// Load balancers may weigh nodes by it.
	w.Header().Set("X-Load-Balancing-Endpoint-Weight", strconv.Itoa(told.localEndpoints))
	code := http.StatusServiceUnavailable
	if told.localEndpoints > 0 && healthy {
		code = http.StatusOK
	}
	w.WriteHeader(code)
	// An error is the client's, who has gone.
	_, _ = fmt.Fprintf(w, "{\n\t\"service\": {\n\t\t\"namespace\": %q,\n\t\t\"name\": %q\n\t},\n\t\"localEndpoints\": %d,\n\t\"serviceProxyHealthy\": %t\n}",
		told.service.Namespace, told.service.Name, told.localEndpoints, healthy)
}

func header(w http.ResponseWriter) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("X-Content-Type-Options", "nosniff")
}

// familyOf returns the family of the address that was connected to.
func familyOf(r *http.Request) service.Family {
	local, ok := r.Context().Value(http.LocalAddrContextKey).(*net.TCPAddr)
	if ok && local.AddrPort().Addr().Unmap().Is4() {
		return service.IPv4
	}
	return service.IPv6
}
