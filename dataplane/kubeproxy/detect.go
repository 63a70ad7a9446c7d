package kubeproxy

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"sync/atomic"
	"time"
)

// The ports of kube-proxy, by default: metrics on the loopback address of the
// node's family, health on all addresses.
const (
	metricsPort = 10249
	healthPort  = 10256
)

// probeTimeout is how long to wait for one answer. kube-proxy gives it from
// memory, on this node; what takes longer hangs.
const probeTimeout = 2 * time.Second

// maxBody bounds what is read of an answer, in bytes. That of kube-proxy is
// shorter than 500.
const maxBody = 16 << 10

// Addresses are where a kube-proxy on this node may answer.
type Addresses struct {
	Metrics, Health []netip.AddrPort
}

// DefaultAddresses returns those of a kube-proxy whose configuration does not
// say others, on the loopback addresses.
func DefaultAddresses() Addresses {
	at := func(port uint16) []netip.AddrPort {
		return []netip.AddrPort{
			netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), port),
			netip.AddrPortFrom(netip.IPv6Loopback(), port),
		}
	}
	return Addresses{Metrics: at(metricsPort), Health: at(healthPort)}
}

// Found is whether a kube-proxy runs on this node.
type Found struct {
	Running bool
	// Mode is iptables, ipvs, nftables or, of a kube-proxy before 1.26,
	// userspace. It is "" where none runs.
	Mode string
	// Reason says what it was known by, or what was there instead.
	Reason string
}

// Detect tells whether a kube-proxy runs on this node.
//
// The answer to /proxyMode on its metrics port is proof: nobody else gives it.
// Metrics may be bound elsewhere, or nowhere. Then one runs where both are
// there: its rules or links in the kernel, and on its health port an answer as
// kube-proxy's, or a process that accepts a connection and does not answer,
// which is a kube-proxy that hangs. Neither alone will do. The rules stay when
// kube-proxy ends, and others answer as it does on the port: the service
// proxies that replace it, Fairway's among them. So Detect is for before this
// process serves that port, and a Fairway that could not remove what kube-proxy
// had left is taken for one.
//
// An error means that it could not be found out, not that none runs: ctx ended,
// or there is an answer on the health port and the kernel could not be asked.
// Where both ports are elsewhere, nothing can be known: give the addresses.
func Detect(ctx context.Context, addresses Addresses) (Found, error) {
	return detect(ctx, addresses, Leftovers)
}

func detect(ctx context.Context, addresses Addresses, leftovers func(context.Context) ([]Leftover, error)) (Found, error) {
	var heard []string // what is there instead
	for _, at := range addresses.Metrics {
		a, err := ask(ctx, at, "/proxyMode")
		if err != nil {
			return Found{}, err
		}
		if mode := strings.TrimSpace(a.body); a.status == http.StatusOK && isMode(mode) {
			return Found{true, mode, fmt.Sprintf("kube-proxy says on %s that its mode is %s", at, mode)}, nil
		}
		if a.heard() {
			heard = append(heard, fmt.Sprintf("on %s, %s", at, a.what))
		}
	}
	health := ""
	for _, at := range addresses.Health {
		a, err := ask(ctx, at, "/healthz")
		if err != nil {
			return Found{}, err
		}
		switch {
		case a.silent:
			health = fmt.Sprintf("something on %s does not answer", at)
		case a.isHealth():
			health = fmt.Sprintf("there is an answer as kube-proxy's on %s", at)
		case a.heard():
			heard = append(heard, fmt.Sprintf("on %s, %s", at, a.what))
		}
		if health != "" {
			break
		}
	}
	if health == "" {
		return Found{Reason: notFound("nothing answers as kube-proxy does", heard)}, nil
	}
	left, err := leftovers(ctx)
	if mode, trace := modeOf(left); mode != "" {
		return Found{true, mode, fmt.Sprintf("%s, and there is in the kernel: %s", health, trace)}, nil
	}
	if err != nil {
		return Found{}, fmt.Errorf("find out whether kube-proxy runs: %s, and it is not known what it has put into the kernel: %w", health, err)
	}
	return Found{Reason: notFound(health+", but nothing of kube-proxy is in the kernel", heard)}, nil
}

func notFound(reason string, heard []string) string {
	return strings.Join(append([]string{reason}, heard...), "; ")
}

// isMode tells whether a word is a mode of kube-proxy on Linux.
func isMode(word string) bool {
	return slices.Contains([]string{modeIPTables, modeIPVS, modeNFTables, "userspace"}, word)
}

// modeOf returns the mode that leftovers are from, and one of them. In IPVS
// mode there are chains, too.
func modeOf(left []Leftover) (mode, trace string) {
	for _, wanted := range []string{modeIPVS, modeNFTables, modeIPTables} {
		for _, l := range left {
			if l.Mode == wanted && len(l.Names) > 0 {
				return wanted, l.String()
			}
		}
	}
	return "", ""
}

// answer is what came of a question.
type answer struct {
	status int // of HTTP, or 0
	body   string
	what   string // in words, for a log
	silent bool   // someone accepted it, and said nothing
}

// heard tells whether anyone is there.
func (a answer) heard() bool { return a.what != "" }

// isHealth tells whether it is kube-proxy's answer to /healthz, which is 503
// where it is not healthy.
func (a answer) isHealth() bool {
	if a.status != http.StatusOK && a.status != http.StatusServiceUnavailable {
		return false
	}
	var body struct{ LastUpdated, CurrentTime *string }
	return json.Unmarshal([]byte(a.body), &body) == nil && body.LastUpdated != nil && body.CurrentTime != nil
}

// ask asks a server of this node. That there is none is an answer, too; the
// error is that of ctx.
func ask(ctx context.Context, at netip.AddrPort, path string) (answer, error) {
	limited, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	var connected atomic.Bool     // the transport dials in a goroutine of its own
	transport := &http.Transport{ // no proxy: it is about this node
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
			conn, err := new(net.Dialer).DialContext(ctx, network, addr)
			if err == nil {
				connected.Store(true)
			}
			return conn, err
		},
	}
	client := &http.Client{
		Transport:     transport,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	request, err := http.NewRequestWithContext(limited, http.MethodGet, "http://"+at.String()+path, nil)
	if err != nil {
		return answer{}, fmt.Errorf("ask %s for %s: %w", at, path, err)
	}
	a := answer{}
	response, err := client.Do(request)
	if err == nil {
		defer func() { _ = response.Body.Close() }() // nothing follows
		var body []byte
		body, err = io.ReadAll(io.LimitReader(response.Body, maxBody))
		a = answer{status: response.StatusCode, body: string(body), what: "status " + response.Status + " for " + path}
	}
	switch {
	case ctx.Err() != nil:
		return answer{}, fmt.Errorf("find out whether kube-proxy runs: ask %s for %s: %w", at, path, ctx.Err())
	case err == nil:
		return a, nil
	case errors.Is(err, context.DeadlineExceeded):
		// The backlog of a process that is stopped may be full.
		return answer{silent: true, what: "no answer to " + path}, nil
	case connected.Load():
		return answer{what: "no HTTP: " + err.Error()}, nil
	}
	return answer{}, nil
}
