package kubeproxy

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"

	"github.com/fairway-lb/fairway/internal/netnstest"
)

// What kube-proxy 1.37 answers to /healthz.
const healthy = `{"lastUpdated":"2026-01-02T03:04:05Z","currentTime":"2026-01-02T03:04:05Z","nodeEligible":true,"healthy":true,` +
	`"status":{"IPv4":{"lastUpdated":"2026-01-02T03:04:05Z","healthy":true}}}`

func TestDetect(t *testing.T) {
	loopback(t)
	mode := func(body string) http.HandlerFunc { return at("/proxyMode", 200, body) }
	chains := []Leftover{{Mode: modeIPTables, Place: "chains", Names: []string{"KUBE-SERVICES"}}}
	unreadable := errors.New("may not read")
	for _, test := range []struct {
		name            string
		metrics, health http.HandlerFunc // nil is that nobody listens
		left            []Leftover
		leftErr         error
		mode, reason    string // a mode is that one runs
		err             error
	}{
		{name: "nobody", reason: "nothing answers"},
		{name: "nobody, but what one left", left: chains, reason: "nothing answers"},
		{name: "iptables", metrics: mode("iptables"), mode: "iptables", reason: "says on"},
		{name: "ipvs", metrics: mode("ipvs"), mode: "ipvs", reason: "says on"},
		{name: "nftables, of a new one that has no rules yet", metrics: mode("nftables\n"), mode: "nftables", reason: "says on"},
		{name: "with health", metrics: mode("iptables"), health: at("/healthz", 200, healthy), mode: "iptables", reason: "says on"},
		{name: "no kube-proxy that says 200 to all", metrics: at("/proxyMode", 200, "<html>iptables</html>"),
			reason: "status 200 OK for /proxyMode"},
		{name: "no kube-proxy that has no modes", metrics: at("/metrics", 200, "x 1"), left: chains, reason: "status 404"},
		{name: "a mode with another status", metrics: at("/proxyMode", 500, "iptables"), reason: "status 500"},
		{name: "no HTTP", metrics: garbage, left: chains, reason: "no HTTP"},
		{name: "health and what it put there", health: at("/healthz", 200, healthy), left: chains,
			mode: "iptables", reason: "there is in the kernel: 1 chains: KUBE-SERVICES"},
		{name: "not healthy", health: at("/healthz", 503, healthy), left: chains, mode: "iptables", reason: "as kube-proxy's"},
		{name: "IPVS, with its chains", health: at("/healthz", 200, healthy),
			left: append(chains[:1:1], Leftover{Mode: modeIPVS, Names: []string{ipvsLink}}), mode: "ipvs"},
		{name: "metrics of something else", metrics: at("/metrics", 200, ""), health: at("/healthz", 200, healthy), left: chains,
			mode: "iptables"},
		{name: "another service proxy", health: at("/healthz", 200, healthy), reason: "nothing of kube-proxy is in the kernel"},
		{name: "another, and what others use of kube-proxy's", health: at("/healthz", 200, healthy),
			left: []Leftover{{Mode: modeIPTables, Kept: []Kept{{chainMark, "used"}}}}, reason: "nothing of kube-proxy"},
		{name: "another health", health: at("/healthz", 200, "ok"), left: chains, reason: "nothing answers as kube-proxy does; on"},
		{name: "JSON of another", health: at("/healthz", 200, `{"healthy":true}`), left: chains, reason: "nothing answers"},
		{name: "health that is moved", health: http.RedirectHandler("http://127.0.0.1:1/healthz", http.StatusFound).ServeHTTP, left: chains,
			reason: "status 302"},
		{name: "one that hangs", health: hang, left: chains, mode: "iptables", reason: "does not answer"},
		{name: "something that hangs", health: hang, reason: "nothing of kube-proxy is in the kernel"},
		{name: "the kernel cannot be asked", health: at("/healthz", 200, healthy), leftErr: unreadable, err: unreadable},
		{name: "it can in part, which is enough", health: at("/healthz", 200, healthy), left: chains, leftErr: unreadable, mode: "iptables"},
		{name: "it need not be", metrics: mode("ipvs"), leftErr: unreadable, mode: "ipvs"},
	} {
		t.Run(test.name, func(t *testing.T) {
			addresses := Addresses{serveAt(t, test.metrics), serveAt(t, test.health)}
			found, err := detect(t.Context(), addresses, func(context.Context) ([]Leftover, error) { return test.left, test.leftErr })
			if !errors.Is(err, test.err) || (err != nil) != (test.err != nil) {
				t.Fatalf("the error is %v, want %v", err, test.err)
			}
			if found.Running != (test.mode != "") || found.Mode != test.mode || !strings.Contains(found.Reason, test.reason) {
				t.Errorf("found %+v, want mode %q and the reason %q", found, test.mode, test.reason)
			}
			if err == nil && found.Reason == "" {
				t.Error("no reason")
			}
		})
	}
}

// In a cluster of IPv6, the metrics of kube-proxy are on ::1.
func TestDetectDefaultAddresses(t *testing.T) {
	loopback(t)
	for _, on := range []string{"127.0.0.1:10249", "[::1]:10249"} {
		listener, err := net.Listen("tcp", on)
		if err != nil {
			t.Fatal(err)
		}
		server := &http.Server{Handler: at("/proxyMode", 200, "nftables")}
		done := make(chan error, 1)
		go func() { done <- server.Serve(listener) }()
		found, err := Detect(t.Context(), DefaultAddresses())
		if err != nil || !found.Running || found.Mode != modeNFTables || !strings.Contains(found.Reason, on) {
			t.Errorf("with one on %s: %+v, %v", on, found, err)
		}
		if err := server.Close(); err != nil {
			t.Error(err)
		}
		<-done
	}
	if found, err := Detect(t.Context(), DefaultAddresses()); err != nil || found.Running {
		t.Errorf("with none: %+v, %v", found, err)
	}
}

// Whoever stops waiting is not told that none runs.
func TestDetectEnds(t *testing.T) {
	loopback(t)
	ctx, cancel := context.WithCancel(t.Context())
	metrics := serveAt(t, func(_ http.ResponseWriter, r *http.Request) { cancel(); <-r.Context().Done() })
	if found, err := Detect(ctx, Addresses{Metrics: metrics}); !errors.Is(err, context.Canceled) {
		t.Errorf("%+v, %v; want %v", found, err, context.Canceled)
	}
}

func at(path string, status int, body string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != path {
			http.NotFound(w, r)
			return
		}
		w.WriteHeader(status)
		_, _ = io.WriteString(w, body)
	}
}

func hang(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }

func garbage(w http.ResponseWriter, _ *http.Request) {
	if conn, _, err := http.NewResponseController(w).Hijack(); err == nil {
		_, _ = io.WriteString(conn, "SSH-2.0-x\r\n")
		_ = conn.Close()
	}
}

// serveAt serves on a port of its own, or, without a handler, returns one that
// nobody listens on.
func serveAt(t *testing.T, handler http.HandlerFunc) []netip.AddrPort {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	where := []netip.AddrPort{listener.Addr().(*net.TCPAddr).AddrPort()}
	if handler == nil {
		if err := listener.Close(); err != nil {
			t.Fatal(err)
		}
		return where
	}
	server := &http.Server{Handler: handler}
	done := make(chan error, 1)
	go func() { done <- server.Serve(listener) }()
	t.Cleanup(func() {
		_ = server.Close() // the listener; it is the test's that is over
		<-done
	})
	return where
}

func loopback(t *testing.T) {
	t.Helper()
	netnstest.Need(t)
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		t.Fatal(err)
	}
	if err := netlink.LinkSetUp(lo); err != nil {
		t.Fatal(err)
	}
}
