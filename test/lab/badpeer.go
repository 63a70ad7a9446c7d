package lab

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/osrg/gobgp/v3/pkg/packet/bgp"
	"golang.org/x/time/rate"
)

// BGPOpen is what a test's own BGP speaker says of itself in OPEN.
type BGPOpen struct {
	AS       uint32
	RouterID netip.Addr    // IPv4; 192.0.2.66 if zero
	Hold     time.Duration // whole seconds; 0 is no keepalives, RFC 4271 4.2
	// Capabilities are offered besides those for IPv4 and IPv6 unicast routes
	// and 4-byte AS numbers.
	Capabilities []bgp.ParameterCapabilityInterface
}

// BGPConn is a TCP connection on which a test speaks BGP, well or badly. It
// keeps no table and reacts to nothing by itself, but for keepalives after
// [BGPConn.Establish]. Its methods are safe for concurrent use.
type BGPConn struct {
	conn  net.Conn
	write sync.Mutex // one message at a time

	mu       sync.Mutex // guards what follows
	received []*bgp.BGPMessage
	arrived  chan struct{} // closed, and replaced by another one, at a message or the end
	end      error         // why there is no more to read
}

// DialBGP connects to a BGP speaker from inside the namespace.
func (n *Namespace) DialBGP(ctx context.Context, to netip.AddrPort) (*BGPConn, error) {
	conn, err := n.DialContext(ctx, "tcp", to.String())
	if err != nil {
		return nil, fmt.Errorf("connect to BGP at %s: %w", to, err)
	}
	return newBGPConn(conn), nil
}

// BGPListener waits for BGP speakers that connect.
type BGPListener struct{ listener net.Listener }

// ListenBGP listens on all addresses inside the namespace.
func (n *Namespace) ListenBGP(port uint16) (*BGPListener, error) {
	listener, err := n.Listen("tcp", net.JoinHostPort("", strconv.Itoa(int(port))))
	if err != nil {
		return nil, fmt.Errorf("listen for BGP: %w", err)
	}
	return &BGPListener{listener}, nil
}

// Accept waits for the next connection, at most until ctx ends.
func (l *BGPListener) Accept(ctx context.Context) (*BGPConn, error) {
	tcp := l.listener.(*net.TCPListener)
	if err := tcp.SetDeadline(time.Time{}); err != nil {
		return nil, fmt.Errorf("wait for BGP: %w", err)
	}
	// An error means that it is closed, which Accept says too.
	defer context.AfterFunc(ctx, func() { _ = tcp.SetDeadline(time.Unix(1, 0)) })()
	conn, err := tcp.Accept()
	if err != nil {
		return nil, fmt.Errorf("wait for BGP: %w", errors.Join(err, context.Cause(ctx)))
	}
	return newBGPConn(conn), nil
}

// Close stops listening; connections stay.
func (l *BGPListener) Close() error { return l.listener.Close() }

func newBGPConn(conn net.Conn) *BGPConn {
	c := &BGPConn{conn: conn, arrived: make(chan struct{})}
	go c.read()
	return c
}

func (c *BGPConn) read() {
	for {
		m, err := readBGP(c.conn)
		c.mu.Lock()
		if err != nil {
			c.end = err
		} else {
			c.received = append(c.received, m)
		}
		close(c.arrived)
		c.arrived = make(chan struct{})
		c.mu.Unlock()
		if err != nil {
			return
		}
	}
}

func readBGP(r io.Reader) (*bgp.BGPMessage, error) {
	header := make([]byte, bgp.BGP_HEADER_LENGTH)
	if _, err := io.ReadFull(r, header); err != nil {
		return nil, err
	}
	length := int(binary.BigEndian.Uint16(header[16:18]))
	if length < bgp.BGP_HEADER_LENGTH {
		return nil, fmt.Errorf("a message of %d bytes", length)
	}
	message := append(header, make([]byte, length-bgp.BGP_HEADER_LENGTH)...)
	if _, err := io.ReadFull(r, message[bgp.BGP_HEADER_LENGTH:]); err != nil {
		return nil, err
	}
	return bgp.ParseBGPMessage(message)
}

// Received returns all messages until now, in order.
func (c *BGPConn) Received() []*bgp.BGPMessage {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.received)
}

// Await waits until the other side has sent a message of that type
// (bgp.BGP_MSG_…) and returns the first one.
func (c *BGPConn) Await(ctx context.Context, kind uint8) (*bgp.BGPMessage, error) {
	for next := 0; ; {
		c.mu.Lock()
		news, arrived, end := c.received[next:], c.arrived, c.end
		c.mu.Unlock()
		for _, m := range news {
			if m.Header.Type == kind {
				return m, nil
			}
		}
		next += len(news)
		if end != nil {
			return nil, fmt.Errorf("wait for a BGP message of type %d: %w", kind, end)
		}
		select {
		case <-arrived:
		case <-ctx.Done():
			return nil, fmt.Errorf("wait for a BGP message of type %d: %w", kind, context.Cause(ctx))
		}
	}
}

// AwaitNotification waits for a NOTIFICATION and returns its code and subcode,
// RFC 4271 4.5.
func (c *BGPConn) AwaitNotification(ctx context.Context) (code, subcode uint8, err error) {
	m, err := c.Await(ctx, bgp.BGP_MSG_NOTIFICATION)
	if err != nil {
		return 0, 0, err
	}
	n := m.Body.(*bgp.BGPNotification)
	return n.ErrorCode, n.ErrorSubcode, nil
}

// AwaitEnd waits until the other side has closed the connection, or has reset it.
func (c *BGPConn) AwaitEnd(ctx context.Context) error {
	_, err := c.Await(ctx, 0) // there is no such type
	if ctx.Err() != nil {
		return err
	}
	return nil
}

// Establish exchanges OPEN and KEEPALIVE and keeps the session alive from then
// on. It returns the other side's OPEN.
func (c *BGPConn) Establish(ctx context.Context, open BGPOpen) (*bgp.BGPOpen, error) {
	if err := c.Send(open.message()); err != nil {
		return nil, err
	}
	m, err := c.Await(ctx, bgp.BGP_MSG_OPEN)
	if err != nil {
		return nil, err
	}
	if err := c.Send(bgp.NewBGPKeepAliveMessage()); err != nil {
		return nil, err
	}
	if _, err := c.Await(ctx, bgp.BGP_MSG_KEEPALIVE); err != nil {
		return nil, err
	}
	theirs := m.Body.(*bgp.BGPOpen)
	if hold := min(open.Hold, time.Duration(theirs.HoldTime)*time.Second); hold > 0 {
		go c.keepAlive(hold / 3)
	}
	return theirs, nil
}

func (c *BGPConn) keepAlive(interval time.Duration) {
	ticker := time.NewTicker(interval)
	defer ticker.Stop()
	for range ticker.C {
		if c.Send(bgp.NewBGPKeepAliveMessage()) != nil {
			return // closed
		}
	}
}

func (o BGPOpen) message() *bgp.BGPMessage {
	id := o.RouterID
	if !id.IsValid() {
		id = netip.AddrFrom4([4]byte{192, 0, 2, 66})
	}
	as := uint16(bgp.AS_TRANS)
	if o.AS < 1<<16 {
		as = uint16(o.AS)
	}
	capabilities := append([]bgp.ParameterCapabilityInterface{
		bgp.NewCapMultiProtocol(bgp.RF_IPv4_UC),
		bgp.NewCapMultiProtocol(bgp.RF_IPv6_UC),
		bgp.NewCapFourOctetASNumber(o.AS),
	}, o.Capabilities...)
	return bgp.NewBGPOpenMessage(as, uint16(seconds(o.Hold)), id.String(),
		[]bgp.OptionParameterInterface{bgp.NewOptionParameterCapability(capabilities)})
}

// Send sends a message.
func (c *BGPConn) Send(m *bgp.BGPMessage) error {
	b, err := m.Serialize()
	if err != nil {
		return fmt.Errorf("encode a BGP message: %w", err)
	}
	return c.SendRaw(b)
}

// SendBody sends a message of that type with any body behind a correct header.
func (c *BGPConn) SendBody(kind uint8, body []byte) error {
	b := slices.Repeat([]byte{0xff}, 16) // the marker
	b = binary.BigEndian.AppendUint16(b, uint16(bgp.BGP_HEADER_LENGTH+len(body)))
	return c.SendRaw(append(append(b, kind), body...))
}

// SendRaw sends bytes as they are.
func (c *BGPConn) SendRaw(b []byte) error {
	c.write.Lock()
	defer c.write.Unlock()
	if _, err := c.conn.Write(b); err != nil {
		return fmt.Errorf("send to a BGP speaker: %w", err)
	}
	return nil
}

// Close closes the connection without a NOTIFICATION.
func (c *BGPConn) Close() error {
	if err := c.conn.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
		return fmt.Errorf("close a BGP connection: %w", err)
	}
	return nil
}

// Flood is a bounded number of routes: host routes with addresses that follow
// each other.
type Flood struct {
	First     netip.Addr
	Count     int
	PerSecond int // all at once if zero
	AS        uint32
	NextHop   netip.Addr // of the same family as First
}

// floodBatch host routes of either family fit into one UPDATE of 4096 bytes.
const floodBatch = 200

// Flood announces the routes, or withdraws them, until all are sent or ctx ends.
func (c *BGPConn) Flood(ctx context.Context, f Flood, withdraw bool) error {
	limit := rate.Inf
	if f.PerSecond > 0 {
		limit = rate.Limit(f.PerSecond)
	}
	limiter := rate.NewLimiter(limit, floodBatch)
	addr := f.First
	for left := f.Count; left > 0; {
		batch := make([]netip.Addr, 0, floodBatch)
		for range min(left, floodBatch) {
			batch = append(batch, addr)
			addr = addr.Next()
		}
		if err := limiter.WaitN(ctx, len(batch)); err != nil {
			return fmt.Errorf("flood a BGP speaker: %w", err)
		}
		if err := c.Send(f.update(batch, withdraw)); err != nil {
			return err
		}
		left -= len(batch)
	}
	return nil
}

func (f Flood) update(batch []netip.Addr, withdraw bool) *bgp.BGPMessage {
	var v4 []*bgp.IPAddrPrefix
	var v6 []bgp.AddrPrefixInterface
	for _, addr := range batch {
		if addr.Is4() {
			v4 = append(v4, bgp.NewIPAddrPrefix(32, addr.String()))
		} else {
			v6 = append(v6, bgp.NewIPv6AddrPrefix(128, addr.String()))
		}
	}
	attrs := []bgp.PathAttributeInterface{
		bgp.NewPathAttributeOrigin(bgp.BGP_ORIGIN_ATTR_TYPE_IGP),
		bgp.NewPathAttributeAsPath([]bgp.AsPathParamInterface{bgp.NewAs4PathParam(bgp.BGP_ASPATH_ATTR_TYPE_SEQ, []uint32{f.AS})}),
	}
	switch {
	case withdraw && v6 == nil:
		return bgp.NewBGPUpdateMessage(v4, nil, nil)
	case withdraw:
		return bgp.NewBGPUpdateMessage(nil, []bgp.PathAttributeInterface{bgp.NewPathAttributeMpUnreachNLRI(v6)}, nil)
	case v6 == nil:
		return bgp.NewBGPUpdateMessage(nil, append(attrs, bgp.NewPathAttributeNextHop(f.NextHop.String())), v4)
	default:
		return bgp.NewBGPUpdateMessage(nil, append(attrs, bgp.NewPathAttributeMpReachNLRI(f.NextHop.String(), v6)), nil)
	}
}

// FlapBGP establishes a session again and again, and closes it without a word
// when it is interval old, until ctx ends. connect is [Namespace.DialBGP] or
// [BGPListener.Accept] in a function. It returns how many sessions there were.
func FlapBGP(ctx context.Context, open BGPOpen, interval time.Duration, connect func(context.Context) (*BGPConn, error)) (sessions int) {
	ticker := time.NewTicker(interval)
	defer ticker.Stop()
	for ctx.Err() == nil {
		if c, err := connect(ctx); err == nil {
			attempt, cancel := context.WithTimeout(ctx, getTimeout)
			if _, err := c.Establish(attempt, open); err == nil {
				sessions++
			}
			cancel()
			select {
			case <-time.After(interval):
			case <-ctx.Done():
			}
			_ = c.Close() // that it is closed already is as good
			continue
		}
		select {
		case <-ticker.C: // refused: do not spin
		case <-ctx.Done():
		}
	}
	return sessions
}
