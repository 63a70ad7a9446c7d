package healthcheck

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"k8s.io/apimachinery/pkg/types"

	"github.com/fairway-lb/fairway/dataplane/service"
	"github.com/fairway-lb/fairway/internal/netnstest"
)

func TestMain(m *testing.M) { netnstest.Main(m) }

// start is when tests begin.
var start = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

// fixture is a NodePorts whose proxy can be made unhealthy.
type fixture struct {
	*NodePorts
	t        *testing.T
	sick     atomic.Bool
	failures []Failure
}

func newFixture(t *testing.T, addresses ...netip.Addr) *fixture {
	t.Helper()
	netnstest.Need(t)
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		t.Fatal(err)
	}
	if err := netlink.LinkSetUp(lo); err != nil {
		t.Fatal(err)
	}
	f := &fixture{t: t}
	f.NodePorts = NewNodePorts(Config{
		Addresses: addresses,
		Healthy:   func() bool { return !f.sick.Load() },
		Report:    func(failure Failure) { f.failures = append(f.failures, failure) },
	})
	t.Cleanup(func() {
		if err := f.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return f
}

func named(name string) types.NamespacedName {
	return types.NamespacedName{Namespace: "default", Name: name}
}

// check is the health check of a port and a count, or nil for port 0.
func check(port uint16, local int) *service.HealthCheck {
	if port == 0 {
		return nil
	}
	return &service.HealthCheck{Port: port, LocalEndpoints: local}
}

func change(name string, family service.Family, before, after *service.HealthCheck) service.HealthCheckChange {
	return service.HealthCheckChange{Service: named(name), Family: family, Before: before, After: after}
}

func (f *fixture) apply(changes ...service.HealthCheckChange) {
	f.t.Helper()
	if again := f.Apply(changes, start); !again.IsZero() {
		f.t.Fatalf("to be tried again at %v: %v", again, f.failures)
	}
}

// ask returns the status and the Service and count that an address answers
// with, or "refused".
func ask(address string) string {
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: 10 * time.Second}
	response, err := client.Get("http://" + address + "/any/path")
	if errors.Is(err, syscall.ECONNREFUSED) {
		return "refused"
	}
	if err != nil {
		return err.Error()
	}
	defer response.Body.Close()
	var body struct {
		Service        struct{ Namespace, Name string }
		LocalEndpoints int
	}
	if err := json.NewDecoder(response.Body).Decode(&body); err != nil {
		return err.Error()
	}
	return fmt.Sprintf("%d %s %d", response.StatusCode, body.Service.Name, body.LocalEndpoints)
}

// TestAnswer compares with what kube-proxy has been seen to answer.
func TestAnswer(t *testing.T) {
	f := newFixture(t)
	f.apply(change("web", service.IPv4, nil, check(32000, 2)))
	for _, test := range []struct {
		name, request string
		do            func()
		status        string
		local         int
		healthy       bool
	}{
		{"endpoints", "GET /", func() {}, "200 OK", 2, true},
		{"any path and method", "POST /x/y?z", func() {}, "200 OK", 2, true},
		{"proxy unhealthy", "GET /", func() { f.sick.Store(true) }, "503 Service Unavailable", 2, false},
		{"no endpoints", "GET /", func() {
			f.sick.Store(false)
			f.apply(change("web", service.IPv4, check(32000, 2), check(32000, 0)))
		}, "503 Service Unavailable", 0, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			test.do()
			conn, err := net.Dial("tcp", "127.0.0.1:32000")
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			if _, err := fmt.Fprintf(conn, "%s HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", test.request); err != nil {
				t.Fatal(err)
			}
			raw, err := io.ReadAll(conn)
			if err != nil {
				t.Fatal(err)
			}
			body := fmt.Sprintf("{\n\t\"service\": {\n\t\t\"namespace\": \"default\",\n\t\t\"name\": \"web\"\n\t},\n\t\"localEndpoints\": %d,\n\t\"serviceProxyHealthy\": %t\n}", test.local, test.healthy)
			got := withoutDate(string(raw))
			want := fmt.Sprintf("HTTP/1.1 %s\r\nContent-Type: application/json\r\nX-Content-Type-Options: nosniff\r\n"+
				"X-Load-Balancing-Endpoint-Weight: %d\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s", test.status, test.local, len(body), body)
			if got != want {
				t.Errorf("answer\n%q, want\n%q", got, want)
			}
		})
	}
}

func withoutDate(answer string) string {
	lines := strings.SplitAfter(answer, "\r\n")
	kept := lines[:0]
	for _, l := range lines {
		if !strings.HasPrefix(l, "Date: ") {
			kept = append(kept, l)
		}
	}
	return strings.Join(kept, "")
}

// TestSequence is the life of one NodePorts.
func TestSequence(t *testing.T) {
	f := newFixture(t)
	const v4, v6 = service.IPv4, service.IPv6
	one, two := check(32000, 1), check(32000, 2)
	web := func(code, count int) string {
		return fmt.Sprintf("%d web %d", code, count)
	}
	for _, step := range []struct {
		name    string
		changes []service.HealthCheckChange
		want    map[string]string
	}{
		{"a check in one family", []service.HealthCheckChange{change("web", v4, nil, one)},
			map[string]string{"127.0.0.1:32000": web(200, 1), "[::1]:32000": web(503, 0)}},
		{"in both, each counts its own", []service.HealthCheckChange{change("web", v6, nil, two)},
			map[string]string{"127.0.0.1:32000": web(200, 1), "[::1]:32000": web(200, 2)}},
		{"the endpoints of one go", []service.HealthCheckChange{change("web", v4, one, check(32000, 0))},
			map[string]string{"127.0.0.1:32000": web(503, 0), "[::1]:32000": web(200, 2)}},
		{"another port in one family", []service.HealthCheckChange{change("web", v4, check(32000, 0), check(32001, 1))},
			map[string]string{"127.0.0.1:32000": web(503, 0), "[::1]:32000": web(200, 2), "127.0.0.1:32001": web(200, 1), "[::1]:32001": web(503, 0)}},
		{"no check in the other", []service.HealthCheckChange{change("web", v6, two, nil)},
			map[string]string{"127.0.0.1:32000": "refused", "[::1]:32000": "refused", "127.0.0.1:32001": web(200, 1)}},
		{"one Service takes the port that another gives up", []service.HealthCheckChange{
			change("app", v4, nil, check(32001, 3)), change("web", v4, check(32001, 1), one)},
			map[string]string{"127.0.0.1:32000": web(200, 1), "127.0.0.1:32001": "200 app 3"}},
		{"what is not there goes", []service.HealthCheckChange{change("none", v4, check(32000, 1), nil), change("none", v6, check(1, 1), nil)},
			map[string]string{"127.0.0.1:32000": web(200, 1)}},
		{"all goes", []service.HealthCheckChange{change("app", v4, check(32001, 3), nil), change("web", v4, one, nil)},
			map[string]string{"127.0.0.1:32000": "refused", "127.0.0.1:32001": "refused"}},
	} {
		f.apply(step.changes...)
		for address, want := range step.want {
			if got := ask(address); got != want {
				t.Errorf("%s: %s answers %q, want %q", step.name, address, got, want)
			}
		}
	}
	if len(f.failures) > 0 {
		t.Errorf("failures %v", f.failures)
	}
}

// TestOnlyWhatChanged has a connection outlive changes of other ports and of
// its own port's answer.
func TestOnlyWhatChanged(t *testing.T) {
	f := newFixture(t)
	f.apply(change("web", service.IPv4, nil, check(32000, 1)))
	conn, err := net.Dial("tcp", "127.0.0.1:32000")
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	read := bufio.NewReader(conn)
	request := func() int {
		t.Helper()
		if _, err := io.WriteString(conn, "GET / HTTP/1.1\r\nHost: x\r\n\r\n"); err != nil {
			t.Fatal(err)
		}
		response, err := http.ReadResponse(read, nil)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.Copy(io.Discard, response.Body); err != nil {
			t.Fatal(err)
		}
		return response.StatusCode
	}
	before, listener := request(), f.ports[32000].listeners[netip.Addr{}]
	f.apply(change("app", service.IPv4, nil, check(32001, 1)), change("web", service.IPv4, check(32000, 1), check(32000, 0)))
	f.apply(change("app", service.IPv4, check(32001, 1), nil))
	if after := request(); before != 200 || after != 503 || f.ports[32000].listeners[netip.Addr{}] != listener {
		t.Errorf("answers %d, then %d on the same connection, want 200 and 503", before, after)
	}
}

// TestWhileChanging asks all the time: each answer is one of those there were.
func TestWhileChanging(t *testing.T) {
	f := newFixture(t)
	f.apply(change("web", service.IPv4, nil, check(32000, 1)))
	done := make(chan struct{})
	go func() {
		defer close(done)
		for range 50 {
			if got := ask("127.0.0.1:32000"); got != "200 web 1" && got != "200 web 2" {
				t.Errorf("answer %q", got)
			}
		}
	}()
	for count := 1; ; count = 3 - count {
		select {
		case <-done:
			return
		default:
			f.apply(change("web", service.IPv4, check(32000, count), check(32000, 3-count)))
		}
	}
}

func TestGivenAddresses(t *testing.T) {
	here, six, gone := netip.MustParseAddr("127.0.0.2"), netip.MustParseAddr("::1"), netip.MustParseAddr("192.0.2.1")
	f := newFixture(t, here, six, gone)
	again := f.Apply([]service.HealthCheckChange{change("web", service.IPv4, nil, check(32000, 1))}, start)
	if ask("127.0.0.1:32000") != "refused" || !strings.HasPrefix(ask("127.0.0.2:32000"), "200") || !strings.HasPrefix(ask("[::1]:32000"), "503") {
		t.Error("not exactly the given addresses are served")
	}
	if len(f.failures) != 1 || f.failures[0].Address != gone || !strings.Contains(f.failures[0].String(), "192.0.2.1 of this node") || !strings.Contains(f.failures[0].String(), "not one of this node") || !again.Equal(start.Add(minBackoff)) {
		t.Errorf("failures %v, to be tried again at %v", f.failures, again)
	}
	f.SetAddresses([]netip.Addr{netip.MustParseAddr("::ffff:127.0.0.1"), six})
	f.apply()
	if ask("127.0.0.2:32000") != "refused" || !strings.HasPrefix(ask("127.0.0.1:32000"), "200") || !strings.HasPrefix(ask("[::1]:32000"), "503") {
		t.Error("not exactly the new addresses are served")
	}
	f.SetAddresses(nil)
	if f.apply(); !strings.HasPrefix(ask("127.0.0.9:32000"), "200") {
		t.Error("not all addresses are served")
	}
}

// TestTaken has another program on the port.
func TestTaken(t *testing.T) {
	f := newFixture(t)
	rival, err := net.Listen("tcp", "127.0.0.1:32000")
	if err != nil {
		t.Fatal(err)
	}
	now := start
	step := func(changes ...service.HealthCheckChange) time.Duration {
		if again := f.Apply(changes, now); !again.IsZero() {
			return again.Sub(now)
		}
		return 0
	}
	first := step(change("web", service.IPv4, nil, check(32000, 1)), change("app", service.IPv4, nil, check(32001, 1)))
	if first != minBackoff || !strings.HasPrefix(ask("127.0.0.1:32001"), "200") {
		t.Errorf("tried again after %v, want %v and the other port served", first, minBackoff)
	}
	want := "The health check of Service default/web cannot be served on TCP port 32000 of all addresses of this node, so load balancers send it no traffic: " +
		"another program has the port; end that program or move it to another port, or let the Service have another healthCheckNodePort, " +
		"by setting its externalTrafficPolicy to Cluster and then to Local again. It is tried again."
	if len(f.failures) != 1 || f.failures[0].String() != want {
		t.Errorf("failures %v, want %q", f.failures, want)
	}
	if early := step(); early != minBackoff {
		t.Errorf("a call before the time says %v, want %v", early, minBackoff)
	}
	for _, want := range []time.Duration{2, 4, 8, 16, 32, 60, 60} {
		now = now.Add(maxBackoff)
		if got := step(); got != want*time.Second {
			t.Errorf("back-off %v, want %v", got, want*time.Second)
		}
	}
	if len(f.failures) != 1 {
		t.Errorf("reported %d times, want once", len(f.failures))
	}
	now = now.Add(maxBackoff)
	step(change("web", service.IPv4, check(32000, 1), nil), change("other", service.IPv4, nil, check(32000, 1)))
	if len(f.failures) != 2 || f.failures[1].Service != named("other") {
		t.Errorf("failures %v, want one for the Service that the port is now of", f.failures)
	}
	_ = rival.Close()
	now = now.Add(maxBackoff)
	if again := step(); again != 0 || !strings.HasPrefix(ask("127.0.0.1:32000"), "200") {
		t.Errorf("the free port is not served; to be tried again after %v", again)
	}
}

// TestTakenAndDeleted gives up on a port that nobody asks for.
func TestTakenAndDeleted(t *testing.T) {
	f := newFixture(t)
	rival, err := net.Listen("tcp", ":32000")
	if err != nil {
		t.Fatal(err)
	}
	defer rival.Close()
	if f.Apply([]service.HealthCheckChange{change("web", service.IPv4, nil, check(32000, 1))}, start).IsZero() {
		t.Error("a port that is taken is not tried again")
	}
	f.apply(change("web", service.IPv4, check(32000, 1), nil))
}

// TestGracefulClose closes a port while a request is in flight.
func TestGracefulClose(t *testing.T) {
	f := newFixture(t)
	entered, release := make(chan struct{}), make(chan struct{})
	f.config.Healthy = func() bool {
		close(entered)
		<-release
		return true
	}
	f.apply(change("web", service.IPv4, nil, check(32000, 1)))
	answered := make(chan string)
	go func() { answered <- ask("127.0.0.1:32000") }()
	<-entered
	f.apply(change("web", service.IPv4, check(32000, 1), nil))
	if again, err := net.Listen("tcp", ":32000"); err != nil {
		t.Errorf("the port is not free at once: %v", err)
	} else {
		_ = again.Close()
	}
	canceled, cancel := context.WithCancel(t.Context())
	cancel()
	if err := f.Close(canceled); !errors.Is(err, context.Canceled) {
		t.Errorf("Close returns %v while a request is in flight", err)
	}
	close(release)
	if got := <-answered; !strings.HasPrefix(got, "200") {
		t.Errorf("the request in flight gets %q", got)
	}
	if err := f.Close(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestFailureRemedies(t *testing.T) {
	for _, test := range []struct {
		err  error
		want string
	}{
		{syscall.EADDRINUSE, "end that program"},
		{syscall.EADDRNOTAVAIL, "give it to an interface"},
		{syscall.EACCES, "NET_BIND_SERVICE"},
		{syscall.EMFILE, "raise the limit"},
		{errors.New("odd"), "odd; look for"},
	} {
		text := Failure{Service: named("web"), Port: 32000, Err: &net.OpError{Op: "listen", Err: test.err}}.String()
		for _, part := range []string{test.want, "default/web", "32000"} {
			if !strings.Contains(text, part) {
				t.Errorf("%q does not say %q", text, part)
			}
		}
	}
}
