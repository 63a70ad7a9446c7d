package bgp

import (
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	wire "github.com/osrg/gobgp/v3/pkg/packet/bgp"
)

// tor is a router at the other end of sessions: it speaks just enough BGP to
// say what it was told, and what no router would say. Its addresses are of
// 127.0.0.0/8, so that there can be many.
type tor struct {
	t       testing.TB
	address netip.Addr
	as      uint32
	// What it says in its OPEN.
	v6, addPath, gracefulRestart bool
	noEOR                        bool

	mu      sync.Mutex
	conn    net.Conn
	up      bool
	open    *wire.BGPOpen // the node's
	opens   int
	routes  map[string]*torRoute
	updates int // UPDATEs with routes or withdrawals
	gone    []string
	eor     int
	closed  string // the NOTIFICATION that it got
}

// torRoute is a path as the router has it.
type torRoute struct {
	nextHop          netip.Addr
	asPath           []uint32
	communities      []uint32
	largeCommunities []string
	localPref, med   *uint32
}

func newTor(t testing.TB, address string, as uint32) *tor {
	return &tor{t: t, address: netip.MustParseAddr(address), as: as, v6: true, gracefulRestart: true, routes: make(map[string]*torRoute)}
}

// connect opens sessions with a node's listener until the test ends, one after
// the other.
func (r *tor) connect(port int) {
	ctx := r.t.Context()
	var wg sync.WaitGroup
	wg.Add(1)
	go func() {
		defer wg.Done()
		retry := time.NewTicker(10 * time.Millisecond)
		defer retry.Stop()
		for ctx.Err() == nil {
			d := net.Dialer{LocalAddr: &net.TCPAddr{IP: r.address.AsSlice()}}
			conn, err := d.DialContext(ctx, "tcp", fmt.Sprintf("127.0.0.1:%d", port))
			if err == nil {
				r.run(conn)
			}
			select {
			case <-ctx.Done():
			case <-retry.C:
			}
		}
	}()
	r.t.Cleanup(func() { r.hangUp(); wg.Wait() })
}

// listen accepts sessions from a node and returns the port.
func (r *tor) listen() uint16 {
	l, err := net.Listen("tcp", net.JoinHostPort(r.address.String(), "0"))
	if err != nil {
		r.t.Fatal(err)
	}
	r.serve(l)
	return uint16(l.Addr().(*net.TCPAddr).Port)
}

// serve accepts sessions until the test ends or the listener is closed.
func (r *tor) serve(l net.Listener) {
	var wg sync.WaitGroup
	wg.Add(1)
	go func() {
		defer wg.Done()
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			r.run(conn)
		}
	}()
	r.t.Cleanup(func() { l.Close(); r.hangUp(); wg.Wait() })
}

// hangUp drops the connection, as a router that crashes.
func (r *tor) hangUp() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.conn != nil {
		r.conn.Close()
	}
}

// send writes to the session what it is given.
func (r *tor) send(messages ...[]byte) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, m := range messages {
		if r.conn != nil {
			r.conn.Write(m) // a session that has ended meanwhile is part of the test
		}
	}
}

func (r *tor) run(conn net.Conn) {
	defer conn.Close()
	r.mu.Lock()
	r.conn, r.up = conn, false
	r.mu.Unlock()
	defer func() {
		r.mu.Lock()
		r.up = false
		r.mu.Unlock()
	}()
	conn.Write(encode(wire.NewBGPOpenMessage(wire.AS_TRANS, 90, r.address.String(), r.capabilities())))
	options := &wire.MarshallingOption{}
	// A connection that comes in the moment in which a session is replaced is never
	// answered.
	conn.SetReadDeadline(time.Now().Add(time.Second))
	for {
		msg, err := read(conn, options)
		if err != nil {
			return
		}
		switch body := msg.Body.(type) {
		case *wire.BGPOpen:
			r.mu.Lock()
			r.open = body
			r.opens++
			r.mu.Unlock()
			conn.SetReadDeadline(time.Time{})
			if r.addPath {
				options.AddPath = map[wire.RouteFamily]wire.BGPAddPathMode{
					wire.RF_IPv4_UC: wire.BGP_ADD_PATH_BOTH, wire.RF_IPv6_UC: wire.BGP_ADD_PATH_BOTH}
			}
			conn.Write(encode(wire.NewBGPKeepAliveMessage()))
		case *wire.BGPKeepAlive:
			r.mu.Lock()
			first := !r.up
			r.up = true
			r.mu.Unlock()
			if first && r.gracefulRestart && !r.noEOR {
				for _, family := range r.families() {
					conn.Write(encode(wire.NewEndOfRib(family)))
				}
			}
		case *wire.BGPUpdate:
			r.update(body)
		case *wire.BGPNotification:
			r.mu.Lock()
			r.closed = codeText(body.ErrorCode, body.ErrorSubcode)
			r.mu.Unlock()
		}
	}
}

func (r *tor) capabilities() []wire.OptionParameterInterface {
	caps := []wire.ParameterCapabilityInterface{
		wire.NewCapFourOctetASNumber(r.as), wire.NewCapMultiProtocol(wire.RF_IPv4_UC), wire.NewCapRouteRefresh()}
	tuples := []*wire.CapGracefulRestartTuple{wire.NewCapGracefulRestartTuple(wire.RF_IPv4_UC, true)}
	adds := []*wire.CapAddPathTuple{wire.NewCapAddPathTuple(wire.RF_IPv4_UC, wire.BGP_ADD_PATH_RECEIVE)}
	if r.v6 {
		caps = append(caps, wire.NewCapMultiProtocol(wire.RF_IPv6_UC))
		tuples = append(tuples, wire.NewCapGracefulRestartTuple(wire.RF_IPv6_UC, true))
		adds = append(adds, wire.NewCapAddPathTuple(wire.RF_IPv6_UC, wire.BGP_ADD_PATH_RECEIVE))
	}
	if r.gracefulRestart {
		caps = append(caps, wire.NewCapGracefulRestart(false, false, 120, tuples))
	}
	if r.addPath {
		caps = append(caps, wire.NewCapAddPath(adds))
	}
	return []wire.OptionParameterInterface{wire.NewOptionParameterCapability(caps)}
}

func (r *tor) update(u *wire.BGPUpdate) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if end, _ := u.IsEndOfRib(); end {
		r.eor++
		return
	}
	r.updates++
	route := &torRoute{}
	var reached, withdrawn []wire.AddrPrefixInterface
	for _, nlri := range u.NLRI {
		reached = append(reached, nlri)
	}
	for _, nlri := range u.WithdrawnRoutes {
		withdrawn = append(withdrawn, nlri)
	}
	for _, attribute := range u.PathAttributes {
		switch a := attribute.(type) {
		case *wire.PathAttributeNextHop:
			route.nextHop, _ = netip.AddrFromSlice(a.Value)
		case *wire.PathAttributeMpReachNLRI:
			route.nextHop, _ = netip.AddrFromSlice(a.Nexthop)
			reached = append(reached, a.Value...)
		case *wire.PathAttributeMpUnreachNLRI:
			withdrawn = append(withdrawn, a.Value...)
		case *wire.PathAttributeAsPath:
			for _, segment := range a.Value {
				route.asPath = append(route.asPath, segment.GetAS()...)
			}
		case *wire.PathAttributeCommunities:
			route.communities = a.Value
		case *wire.PathAttributeLargeCommunities:
			for _, c := range a.Values {
				route.largeCommunities = append(route.largeCommunities, c.String())
			}
		case *wire.PathAttributeLocalPref:
			route.localPref = &a.Value
		case *wire.PathAttributeMultiExitDisc:
			route.med = &a.Value
		}
	}
	route.nextHop = route.nextHop.Unmap()
	for _, nlri := range reached {
		r.routes[r.key(nlri)] = route
	}
	for _, nlri := range withdrawn {
		if _, had := r.routes[r.key(nlri)]; had {
			delete(r.routes, r.key(nlri))
			r.gone = append(r.gone, r.key(nlri))
		}
	}
}

func (r *tor) key(nlri wire.AddrPrefixInterface) string {
	if r.addPath {
		return fmt.Sprintf("%v#%d", nlri, nlri.PathIdentifier())
	}
	return nlri.String()
}

// route returns the path of a prefix, nil for none.
func (r *tor) route(prefix string) *torRoute {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.routes[prefix]
}

// meds returns the MEDs of all prefixes, the number of paths for those with
// several.
func (r *tor) meds() map[string]uint32 {
	r.mu.Lock()
	defer r.mu.Unlock()
	meds, paths := make(map[string]uint32), make(map[string]uint32)
	for key, route := range r.routes {
		prefix, _, _ := strings.Cut(key, "#")
		meds[prefix] = *route.med
		if paths[prefix]++; paths[prefix] > 1 {
			meds[prefix] = 1000 * paths[prefix]
		}
	}
	return meds
}

// count is how many paths the router has.
func (r *tor) count() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.routes)
}

// saw returns how many UPDATEs have come, and the withdrawn routes.
func (r *tor) saw() (updates int, gone []string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.updates, append([]string(nil), r.gone...)
}

// notification returns what closed the session.
func (r *tor) notification() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.closed
}

// sessions is how many have been opened.
func (r *tor) sessions() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.opens
}

// markers is how many End-of-RIB markers have come.
func (r *tor) markers() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.eor
}

func (r *tor) established() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.up
}

// families are those that both ends have.
func (r *tor) families() (families []wire.RouteFamily) {
	for _, c := range r.offered() {
		if mp, ok := c.(*wire.CapMultiProtocol); ok && (r.v6 || mp.CapValue == wire.RF_IPv4_UC) {
			families = append(families, mp.CapValue)
		}
	}
	return families
}

// offered are the capabilities in the node's last OPEN.
func (r *tor) offered() (offered []wire.ParameterCapabilityInterface) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.open != nil {
		for _, p := range r.open.OptParams {
			offered = append(offered, p.(*wire.OptionParameterCapability).Capability...)
		}
	}
	return offered
}

// restarting returns the R and F bits of the node's last OPEN (RFC 4724, 3).
func (r *tor) restarting() (restarted, preserved bool) {
	for _, c := range r.offered() {
		if gr, ok := c.(*wire.CapGracefulRestart); ok {
			restarted = gr.Flags&0x08 != 0
			for _, tuple := range gr.Tuples {
				preserved = preserved || tuple.Flags&0x80 != 0
			}
		}
	}
	return restarted, preserved
}

func encode(m *wire.BGPMessage) []byte {
	data, err := m.Serialize()
	if err != nil {
		panic(err) // a fault of the test
	}
	return data
}

func read(conn net.Conn, options *wire.MarshallingOption) (*wire.BGPMessage, error) {
	head := make([]byte, wire.BGP_HEADER_LENGTH)
	if _, err := io.ReadFull(conn, head); err != nil {
		return nil, err
	}
	var header wire.BGPHeader
	if err := header.DecodeFromBytes(head); err != nil {
		return nil, err
	}
	body := make([]byte, int(header.Len)-wire.BGP_HEADER_LENGTH)
	if _, err := io.ReadFull(conn, body); err != nil {
		return nil, err
	}
	return wire.ParseBGPBody(&header, body, options)
}
