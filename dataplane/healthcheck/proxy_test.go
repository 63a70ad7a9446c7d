package healthcheck

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/fairway-lb/fairway/dataplane/service"
)

const limit = time.Minute

// TestProxy is the life of one Proxy: a step every 10 seconds.
func TestProxy(t *testing.T) {
	const v4, v6 = service.IPv4, service.IPv6
	now := start
	reg := prometheus.NewRegistry()
	p, err := NewProxy(limit, func() time.Time { return now }, reg)
	if err != nil {
		t.Fatal(err)
	}
	get := func(path string) (int, string) {
		w := httptest.NewRecorder()
		p.Handler().ServeHTTP(w, httptest.NewRequest(http.MethodGet, path, nil))
		if h := w.Header(); h.Get("Content-Type") != "application/json" || h.Get("X-Content-Type-Options") != "nosniff" {
			t.Errorf("%s has the headers %v", path, h)
		}
		// The date is the same in all.
		return w.Code, strings.ReplaceAll(w.Body.String(), "2026-01-02T03:", "")
	}
	node := func(change func(*corev1.Node)) func() {
		return func() {
			n := &corev1.Node{Spec: corev1.NodeSpec{Taints: []corev1.Taint{{Key: "other"}}}}
			change(n)
			p.SetNode(n)
		}
	}
	plain := node(func(*corev1.Node) {})
	for _, step := range []struct {
		name           string
		do             func()
		healthz, livez int
		body           string // of healthz
	}{
		{"before it begins", func() {}, 503, 200,
			`{"lastUpdated":"0001-01-01T00:00:00Z","currentTime":"04:05Z","nodeEligible":false,"healthy":true}`},
		{"the Node is known", plain, 200, 200,
			`{"lastUpdated":"04:15Z","currentTime":"04:15Z","nodeEligible":true,"healthy":true}`},
		{"one family begins", func() { p.Updated(v4) }, 200, 200,
			`{"lastUpdated":"04:25Z","currentTime":"04:25Z","nodeEligible":true,"healthy":true,"status":{"IPv4":{"lastUpdated":"04:25Z","healthy":true}}}`},
		{"both, and a change waits", func() { p.Updated(v6); p.Queued(v6) }, 200, 200,
			`{"lastUpdated":"04:35Z","currentTime":"04:35Z","nodeEligible":true,"healthy":true,"status":{"IPv4":{"lastUpdated":"04:25Z","healthy":true},"IPv6":{"lastUpdated":"04:35Z","healthy":true}}}`},
		{"an attempt fails, another change waits", func() { p.Begin(v6); p.Queued(v6) }, 200, 200, ""},
		{"a second attempt", func() { p.Begin(v6) }, 200, 200, ""},
		{"20 s", func() {}, 200, 200, ""},
		{"30 s", func() {}, 200, 200, ""},
		{"40 s; the other family is no help", func() { p.Queued(v4); p.Begin(v4); p.Updated(v4) }, 200, 200, ""},
		{"60 s, the limit", func() {}, 503, 503,
			`{"lastUpdated":"05:25Z","currentTime":"05:35Z","nodeEligible":true,"healthy":false,"status":{"IPv4":{"lastUpdated":"05:25Z","healthy":true},"IPv6":{"lastUpdated":"04:35Z","healthy":false}}}`},
		{"made, but for a change that came meanwhile", func() { p.Queued(v6); p.Updated(v6) }, 200, 200, ""},
		{"tainted", node(func(n *corev1.Node) { n.Spec.Taints = append(n.Spec.Taints, corev1.Taint{Key: taintToBeDeleted}) }), 503, 200,
			`{"lastUpdated":"05:45Z","currentTime":"05:55Z","nodeEligible":false,"healthy":true,"status":{"IPv4":{"lastUpdated":"05:25Z","healthy":true},"IPv6":{"lastUpdated":"05:45Z","healthy":true}}}`},
		{"no longer", plain, 200, 200, ""},
		{"being deleted", node(func(n *corev1.Node) { n.DeletionTimestamp = new(metav1.Unix(1, 0)) }), 503, 200, ""},
		{"gone", func() { p.SetNode(nil) }, 503, 200, ""},
		{"back", plain, 200, 200, ""},
		{"the change that came meanwhile is late", func() {}, 503, 503, ""},
		{"and is made", func() { p.Begin(v6); p.Updated(v6) }, 200, 200, ""},
		{"nothing to do for a long time", func() { now = now.Add(time.Hour) }, 200, 200, ""},
	} {
		step.do()
		healthz, body := get("/healthz")
		livez, livezBody := get("/livez")
		if healthz != step.healthz || livez != step.livez {
			t.Errorf("%s: healthz %d, livez %d, want %d and %d", step.name, healthz, livez, step.healthz, step.livez)
		}
		if step.body != "" && body != step.body {
			t.Errorf("%s: healthz is\n%s, want\n%s", step.name, body, step.body)
		}
		if strings.Contains(livezBody, "nodeEligible") {
			t.Errorf("%s: livez is %s", step.name, livezBody)
		}
		if p.Healthy() != (livez == 200) {
			t.Errorf("%s: Healthy is %v", step.name, p.Healthy())
		}
		now = now.Add(10 * time.Second)
	}
	want := "fairway_proxy_healthz_total 200:13 503:6, fairway_proxy_livez_total 200:17 503:2"
	if got := counters(t, reg); got != want {
		t.Errorf("metrics %q, want %q", got, want)
	}
	w := httptest.NewRecorder()
	p.Handler().ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/", nil))
	if w.Code != http.StatusNotFound {
		t.Errorf("another path gets %d", w.Code)
	}
}

func TestProxyRegistersOnce(t *testing.T) {
	reg := prometheus.NewRegistry()
	for range 2 {
		if _, err := NewProxy(limit, time.Now, reg); err != nil {
			return
		}
	}
	t.Error("two proxies count into the same metrics")
}

func TestProxyWithoutRegistry(t *testing.T) {
	if p, err := NewProxy(limit, time.Now, nil); err != nil || !p.Healthy() {
		t.Error(err)
	}
}

// counters returns all counters by name and code.
func counters(t *testing.T, reg *prometheus.Registry) string {
	t.Helper()
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	var list []string
	for _, f := range families {
		text := f.GetName()
		for _, m := range f.GetMetric() {
			text += fmt.Sprintf(" %s:%v", m.GetLabel()[0].GetValue(), m.GetCounter().GetValue())
		}
		list = append(list, text)
	}
	return strings.Join(list, ", ")
}
