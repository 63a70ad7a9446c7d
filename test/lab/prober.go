package lab

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"time"

	"github.com/mdlayher/packet"
	"golang.org/x/sys/unix"
)

// ownerWait is how long Owner listens for a second answer.
const ownerWait = 200 * time.Millisecond

// Prober asks on the wire again and again who has an address, and records all
// that it hears about it.
type Prober struct {
	*Recorder
	addr   netip.Addr
	cancel context.CancelFunc
	ended  chan struct{}
}

// Probe asks for an address from the client; see [Host.Probe].
func (l *Lab) Probe(addr netip.Addr, interval time.Duration) (*Prober, error) {
	return l.client.Probe(addr, interval)
}

// Probe sends an ARP request or a neighbour solicitation for an address at once
// and then every interval, until it is stopped. The host's own kernel and its
// neighbour table have no part in it.
func (h *Host) Probe(addr netip.Addr, interval time.Duration) (*Prober, error) {
	request, err := encodeRequest(h.mac, h.sourceFor(addr), addr)
	if err != nil {
		return nil, err
	}
	recorder, err := h.Record(addr)
	if err != nil {
		return nil, err
	}
	// A packet socket does not see what it sent itself, so there are two.
	conn, err := h.openSender()
	if err != nil {
		_, stopped := recorder.Stop()
		return nil, errors.Join(fmt.Errorf("probe from %s: %w", h.name, err), stopped)
	}
	ctx, cancel := context.WithCancel(context.Background())
	p := &Prober{Recorder: recorder, addr: addr, cancel: cancel, ended: make(chan struct{})}
	go func() {
		defer close(p.ended)
		p.fail(errors.Join(p.send(ctx, conn, request, interval), conn.Close()))
	}()
	return p, nil
}

// openSender opens a packet socket that receives nothing.
func (h *Host) openSender() (conn *packet.Conn, err error) {
	err = h.Do(func() error {
		link, err := net.InterfaceByName(h.link)
		if err != nil {
			return err
		}
		conn, err = packet.Listen(link, packet.Raw, 0, nil)
		return err
	})
	return conn, err
}

// Stop ends the prober and returns everything that it sent and heard.
func (p *Prober) Stop() (Observations, error) {
	p.cancel()
	<-p.ended
	return p.Recorder.Stop()
}

func (p *Prober) send(ctx context.Context, conn *packet.Conn, request []byte, interval time.Duration) error {
	to := &packet.Addr{HardwareAddr: request[:6]}
	ticker := time.NewTicker(interval)
	defer ticker.Stop()
	for {
		_, err := conn.WriteTo(request, to)
		// A cable that is pulled, or a full queue, is an ordinary loss.
		if err != nil && !errors.Is(err, unix.ENETDOWN) && !errors.Is(err, unix.ENOBUFS) {
			return fmt.Errorf("ask for %s: %w", p.addr, err)
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return nil
		}
	}
}

// sourceFor is the host's address of the same family.
func (h *Host) sourceFor(addr netip.Addr) netip.Addr {
	if addr.Is4() {
		return h.Addr4()
	}
	return h.Addr6()
}

// Owner asks once, from the client, who has an address, and returns the names of
// all hosts that answered within 200 ms, sorted; a hardware address stands for
// an answer from elsewhere. No answer is an empty list, not an error.
func (l *Lab) Owner(ctx context.Context, addr netip.Addr) ([]string, error) {
	ctx, cancel := context.WithTimeout(ctx, ownerWait)
	defer cancel()
	p, err := l.client.Probe(addr, time.Hour)
	if err != nil {
		return nil, err
	}
	<-ctx.Done()
	seen, err := p.Stop()
	if err == nil && !errors.Is(ctx.Err(), context.DeadlineExceeded) {
		err = ctx.Err()
	}
	if err != nil {
		return nil, fmt.Errorf("find the owner of %s: %w", addr, err)
	}
	owners := seen.Replies().Owners()
	slices.Sort(owners)
	return owners, nil
}
