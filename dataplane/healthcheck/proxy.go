package healthcheck

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	corev1 "k8s.io/api/core/v1"

	"github.com/fairway-lb/fairway/dataplane/service"
)

// taintToBeDeleted is what the cluster autoscaler taints a node with before it
// removes it (KEP-3836).
const taintToBeDeleted = "ToBeDeletedByClusterAutoscaler"

// Proxy is the health of the service proxy. Its methods are safe for
// concurrent use.
//
// A family is unhealthy from when a change has waited for longer than the
// limit until it is applied: Queued is called when there is a change to make,
// Begin when all that is queued is about to be made, and Updated when it is
// made. A change that is queued in between is not taken for made, which
// kube-proxy does.
type Proxy struct {
	limit        time.Duration
	now          func() time.Time
	healthz      *prometheus.CounterVec
	livez        *prometheus.CounterVec
	mu           sync.Mutex
	families     [2]progress
	nodeEligible bool
}

// progress is how far a family is. The zero time is never, or nothing.
type progress struct {
	updated time.Time
	queued  time.Time // the oldest change that no attempt is made at yet
	begun   time.Time // when the oldest was queued that one is made at
}

// oldest returns when the oldest change was queued that is not made.
func (p progress) oldest() time.Time {
	if !p.begun.IsZero() {
		return p.begun
	}
	return p.queued
}

// NewProxy returns the health of a proxy that has not begun. kube-proxy's
// limit is twice its sync period, 60 s. It counts answers by code in the
// metrics fairway_proxy_healthz_total and fairway_proxy_livez_total; the error
// is that of the registration.
func NewProxy(limit time.Duration, now func() time.Time, registerer prometheus.Registerer) (*Proxy, error) {
	counter := func(path string) *prometheus.CounterVec {
		c := prometheus.NewCounterVec(prometheus.CounterOpts{
			Namespace: "fairway", Subsystem: "proxy", Name: path + "_total",
			Help: "Answers to /" + path + " of the service proxy, by HTTP status code.",
		}, []string{"code"})
		for _, code := range []int{http.StatusOK, http.StatusServiceUnavailable} {
			c.WithLabelValues(strconv.Itoa(code)) // so that a rate is there from the beginning
		}
		return c
	}
	p := &Proxy{limit: limit, now: now, healthz: counter("healthz"), livez: counter("livez")}
	if registerer == nil {
		return p, nil
	}
	if err := registerer.Register(p.healthz); err != nil {
		return nil, fmt.Errorf("register the metric of /healthz: %w", err)
	}
	if err := registerer.Register(p.livez); err != nil {
		registerer.Unregister(p.healthz)
		return nil, fmt.Errorf("register the metric of /livez: %w", err)
	}
	return p, nil
}

// Queued says that there is a change to make.
func (p *Proxy) Queued(family service.Family) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if f := &p.families[family]; f.queued.IsZero() {
		f.queued = p.now()
	}
}

// Begin says that all that is queued is about to be made.
func (p *Proxy) Begin(family service.Family) {
	p.mu.Lock()
	defer p.mu.Unlock()
	f := &p.families[family]
	if f.begun.IsZero() { // or else the attempt before failed
		f.begun = f.queued
	}
	f.queued = time.Time{}
}

// Updated says that all is made that was queued before Begin. A family that it
// was never called for is not judged: call it when the proxy of the family
// starts, so that a first attempt that never succeeds is noticed.
func (p *Proxy) Updated(family service.Family) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.families[family].begun = time.Time{}
	p.families[family].updated = p.now()
}

// SetNode takes this Node as it is now. nil is one that is not there, or not
// known yet.
func (p *Proxy) SetNode(node *corev1.Node) {
	eligible := node != nil && node.DeletionTimestamp.IsZero()
	if eligible {
		for i := range node.Spec.Taints {
			eligible = eligible && node.Spec.Taints[i].Key != taintToBeDeleted
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.nodeEligible = eligible
}

// Healthy tells whether all families keep up. It does not depend on the Node.
func (p *Proxy) Healthy() bool {
	report, _ := p.health()
	return report.Healthy
}

// Handler serves /healthz, which is for load balancers of clusters: not
// healthy on a node that is about to go; and /livez, which is for whoever
// would restart the proxy (KEP-3836).
func (p *Proxy) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("/healthz", func(w http.ResponseWriter, _ *http.Request) {
		report, eligible := p.health()
		report.NodeEligible = &eligible
		p.answer(w, report, report.Healthy && eligible, p.healthz)
	})
	mux.HandleFunc("/livez", func(w http.ResponseWriter, _ *http.Request) {
		report, _ := p.health()
		p.answer(w, report, report.Healthy, p.livez)
	})
	return mux
}

// health is the answer to /healthz and /livez: kube-proxy's, field by field.
type health struct {
	// LastUpdated is that of the family that was updated last, but the present
	// where the answer is 200, for those who know older kube-proxies.
	LastUpdated  time.Time               `json:"lastUpdated"`
	CurrentTime  time.Time               `json:"currentTime"`
	NodeEligible *bool                   `json:"nodeEligible,omitempty"`
	Healthy      bool                    `json:"healthy"`
	Status       map[string]familyHealth `json:"status,omitempty"`
}

type familyHealth struct {
	LastUpdated time.Time `json:"lastUpdated"`
	Healthy     bool      `json:"healthy"`
}

// health returns the answer without what differs between /healthz and /livez,
// and whether the Node is to stay.
func (p *Proxy) health() (report health, eligible bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	report = health{CurrentTime: p.now(), Healthy: true, Status: map[string]familyHealth{}}
	for _, family := range []service.Family{service.IPv4, service.IPv6} {
		f := p.families[family]
		if f.updated.IsZero() {
			continue
		}
		oldest := f.oldest()
		healthy := oldest.IsZero() || report.CurrentTime.Sub(oldest) < p.limit
		report.Status[family.String()] = familyHealth{f.updated, healthy}
		report.Healthy = report.Healthy && healthy
		if f.updated.After(report.LastUpdated) {
			report.LastUpdated = f.updated
		}
	}
	return report, p.nodeEligible
}

func (p *Proxy) answer(w http.ResponseWriter, report health, ok bool, counter *prometheus.CounterVec) {
	code := http.StatusServiceUnavailable
	if ok {
		code, report.LastUpdated = http.StatusOK, report.CurrentTime
	}
	body, err := json.Marshal(report)
	if err != nil { // a clock that is centuries off
		code, body = http.StatusServiceUnavailable, []byte("{}")
	}
	counter.WithLabelValues(strconv.Itoa(code)).Inc()
	header(w)
	w.WriteHeader(code)
	_, _ = w.Write(body) // an error is the client's, who has gone
}
