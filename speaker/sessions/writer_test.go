package sessions

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-logr/logr/testr"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/tools/events"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"github.com/fairway-lb/fairway/api/v1alpha2"
	"github.com/fairway-lb/fairway/speaker/bgp"
)

// world is a node n1 with one BgpPeer, router, and an API server that counts
// writes and may be down.
type world struct {
	*testing.T
	client  client.Client
	events  *events.FakeRecorder
	changed chan struct{}
	w       *Writer
	stop    context.CancelFunc
	stopped chan struct{}

	mu       sync.Mutex
	sessions []bgp.Session
	down     error    // what writes are answered with
	writes   []string // those that came, also while it was down
}

// run runs a test in a world whose clock is the test's.
func run(t *testing.T, test func(w *world), objects ...client.Object) {
	synctest.Test(t, func(t *testing.T) {
		scheme := runtime.NewScheme()
		if err := v1alpha2.AddToScheme(scheme); err != nil {
			t.Fatal(err)
		}
		w := &world{T: t, changed: make(chan struct{}, 1)}
		w.client = fake.NewClientBuilder().WithScheme(scheme).WithObjects(objects...).
			WithStatusSubresource(&v1alpha2.BgpPeer{}, &v1alpha2.BgpConf{}).
			WithInterceptorFuncs(interceptor.Funcs{
				SubResourceApply: func(ctx context.Context, c client.Client, sub string, object runtime.ApplyConfiguration, o ...client.SubResourceApplyOption) error {
					if err := w.count("apply"); err != nil {
						return err
					}
					return c.SubResource(sub).Apply(ctx, object, o...)
				},
				SubResourcePatch: func(ctx context.Context, c client.Client, sub string, object client.Object, patch client.Patch, o ...client.SubResourcePatchOption) error {
					if err := w.count("remove"); err != nil {
						return err
					}
					return c.SubResource(sub).Patch(ctx, object, patch, o...)
				},
			}).Build()
		w.start()
		test(w)
		w.stop()
		<-w.stopped
	})
}

// start starts a new process.
func (w *world) start() {
	w.events = events.NewFakeRecorder(10000) // blocks when it is full
	w.w = New(Config{NodeName: "n1", Client: w.client, Changed: w.changed, Events: w.events, Log: testr.New(w.T),
		Sessions: func() []bgp.Session {
			w.mu.Lock()
			defer w.mu.Unlock()
			return slices.Clone(w.sessions)
		}})
	ctx, cancel := context.WithCancel(w.Context())
	stopped := make(chan struct{})
	w.stop, w.stopped = cancel, stopped
	go func() {
		defer close(stopped)
		if err := w.w.Start(ctx); err != nil {
			w.Error(err)
		}
	}()
}

func (w *world) restart() {
	w.stop()
	<-w.stopped
	w.start()
}

func (w *world) count(write string) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.writes = append(w.writes, write)
	return w.down
}

func (w *world) answer(err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.down = err
}

// publish publishes the one peer, as it is right.
func (w *world) publish() {
	w.w.Publish(bgp.Config{Router: &bgp.Router{AS: 50000, ID: testSession("", noon, 0, "").RouterID}, Peers: []bgp.Peer{*testPeer()}}, bgp.Findings{
		Router: bgp.Finding{OK: true, Reason: bgp.ReasonReady, Message: "ready"},
		Peers:  map[string]bgp.Finding{"router": {OK: true, Reason: bgp.ReasonAccepted, Message: "fine"}},
	}, nil)
}

// session changes what the session is.
func (w *world) session(s *bgp.Session) {
	w.mu.Lock()
	w.sessions = []bgp.Session{*s}
	w.mu.Unlock()
	select {
	case w.changed <- struct{}{}:
	default:
	}
}

// after lets time go by. It returns what was written since the last time,
// sorted.
func (w *world) after(d time.Duration) string {
	<-time.After(d)
	synctest.Wait()
	w.mu.Lock()
	defer w.mu.Unlock()
	slices.Sort(w.writes)
	writes := strings.Join(w.writes, " ")
	w.writes = nil
	return writes
}

func (w *world) expect(what, got, want string) {
	w.Helper()
	if got != want {
		w.Errorf("%s: %q, want %q", what, got, want)
	}
}

// told returns the events since the last time.
func (w *world) told() string {
	var told []string
	for {
		select {
		case e := <-w.events.Events:
			told = append(told, e)
		default:
			return strings.Join(told, "\n")
		}
	}
}

// entry returns n1's in the status of the BgpPeer.
func (w *world) entry() v1alpha2.NodePeerStatus {
	w.Helper()
	var peer v1alpha2.BgpPeer
	if err := w.client.Get(w.Context(), client.ObjectKey{Name: "router"}, &peer); err != nil {
		w.Fatal(err)
	}
	return peer.Status.NodesPeerStatus["n1"]
}

// shows returns what an operator sees of the session: its state, and the
// condition Established.
func (w *world) shows() string {
	w.Helper()
	e := w.entry()
	if e.PeerState == nil {
		return ""
	}
	c := e.Conditions[1]
	return e.PeerState.SessionState + " " + string(c.Status) + " " + c.LastTransitionTime.UTC().Format(time.TimeOnly) + " " + c.Message
}

func router() *v1alpha2.BgpPeer {
	return &v1alpha2.BgpPeer{ObjectMeta: metav1.ObjectMeta{Name: "router", UID: "1"}}
}

func conf() *v1alpha2.BgpConf {
	return &v1alpha2.BgpConf{ObjectMeta: metav1.ObjectMeta{Name: v1alpha2.BgpConfName, UID: "2"}}
}

// The clock starts at midnight, 2000-01-01, UTC.

// A session's life: writes only when it matters, and a restart of the speaker
// that changes nothing.
func TestWritesOnChangesOnly(t *testing.T) {
	run(t, func(w *world) {
		w.session(testSession("IDLE", time.Time{}, 0, ""))
		w.expect("before the first Publish", w.after(time.Minute), "")
		w.publish()
		w.expect("at once", w.after(time.Millisecond), "apply apply") // BgpConf, BgpPeer
		w.expect("the peer shows", w.shows(), "IDLE False 00:01:00 192.0.2.1 has not answered yet")
		for range 100 {
			w.session(testSession("ACTIVE", time.Time{}, 0, ""))
			w.expect("attempts", w.after(2*time.Second), "")
			w.session(testSession("CONNECT", time.Time{}, 0, ""))
			w.expect("attempts", w.after(3*time.Second), "")
		}
		w.session(testSession("ESTABLISHED", time.Now(), 0, ""))
		w.expect("up", w.after(time.Millisecond), "apply")
		w.expect("the peer shows", w.shows(), "ESTABLISHED True 00:09:20 the session is established")
		w.publish()
		w.expect("the same published again", w.after(time.Hour), "")
		w.restart()
		w.publish()
		w.expect("restart", w.after(time.Hour), "")
		w.session(testSession("IDLE", time.Now(), 1, "hold timer expired"))
		w.expect("down", w.after(time.Millisecond), "apply")
		w.expect("the peer shows", w.shows(), "IDLE False 02:09:20 hold timer expired")
		w.expect("told", w.told(), "Normal SessionUp node n1 established the BGP session with 192.0.2.1, AS 50001\n"+
			"Warning SessionDown node n1 lost the BGP session with 192.0.2.1, AS 50001: hold timer expired")
	}, router(), conf())
}

// A session that comes and goes each second is written at once at first, then
// seldom, and at last as it is.
func TestFlapping(t *testing.T) {
	run(t, func(w *world) {
		w.session(testSession("IDLE", time.Time{}, 0, ""))
		w.publish()
		w.after(time.Hour)
		writes := 0
		for flaps := range uint64(60) {
			w.session(testSession("ESTABLISHED", time.Now(), flaps, ""))
			w.after(500 * time.Millisecond)
			w.session(testSession("IDLE", time.Now(), flaps+1, "Cease"))
			writes += strings.Count(w.after(500*time.Millisecond), "apply")
		}
		if writes > 15 {
			t.Errorf("%d writes for a minute of flaps", writes)
		}
		w.after(refill)
		w.expect("the peer shows at last", w.shows(), "IDLE False 01:00:59 Cease")
		if got := w.entry().PeerState.Flops; got != 60 {
			t.Errorf("the entry shows %d flaps, want 60", got)
		}
		if got := strings.Count(w.told(), "SessionDown"); got != 60 {
			t.Errorf("%d of 60 flaps were told", got)
		}
	}, router(), conf())
}

// While the API server is down, Publish and the sessions go on, attempts are
// few, and then the latest state is written.
func TestAPIServerDown(t *testing.T) {
	run(t, func(w *world) {
		w.answer(errors.New("connection refused"))
		attempts := 0
		for flaps := range uint64(600) {
			w.session(testSession("IDLE", time.Now(), flaps, "Cease"))
			w.publish()
			attempts += strings.Count(w.after(time.Second), "apply")
		}
		if attempts > 2*70 {
			t.Errorf("%d attempts to write two entries in ten minutes", attempts)
		}
		w.answer(nil)
		w.expect("when it is back", w.after(lastRetry), "apply apply")
		w.expect("the peer shows", w.shows(), "IDLE False 00:09:59 Cease")
		w.expect("afterwards", w.after(time.Hour), "")
	}, router(), conf())
}

// Entries go when the node has nothing to say of an object any more, also
// those that an earlier process left.
func TestEntriesAreRemoved(t *testing.T) {
	foreign, stale := router(), router()
	stale.Name = "stale"
	foreign.Name = "foreign"
	stale.Status.NodesPeerStatus = map[string]v1alpha2.NodePeerStatus{"n1": {PeerState: &v1alpha2.PeerState{SessionState: "ACTIVE"}}, "n2": {}}
	foreign.Status.NodesPeerStatus = map[string]v1alpha2.NodePeerStatus{"n2": {PeerState: &v1alpha2.PeerState{SessionState: "ACTIVE"}}}
	run(t, func(w *world) {
		w.session(testSession("ESTABLISHED", noon, 0, ""))
		w.publish()
		w.expect("start", w.after(time.Minute), "apply apply remove")
		w.w.Publish(bgp.Config{}, bgp.Findings{Router: bgp.Finding{OK: true}}, nil)
		w.expect("not for this node", w.after(time.Minute), "apply remove")
		w.expect("the peer shows", w.shows(), "")
		w.publish()
		w.expect("for this node again", w.after(time.Minute), "apply apply")
		missing := bgp.Finding{Reason: bgp.ReasonRouterMissing, Message: "BgpPeer router: there is no BgpConf"}
		w.told()
		w.w.Publish(bgp.Config{}, bgp.Findings{Router: bgp.Finding{Reason: bgp.ReasonBgpConfMissing}, Peers: map[string]bgp.Finding{"router": missing}}, nil)
		w.expect("without BgpConf", w.after(time.Minute), "remove remove")
		w.expect("told", w.told(), "Warning SessionDown node n1 lost the BGP session with 192.0.2.1, AS 50001: the node ended it: "+missing.Message+
			"\nWarning PeerNotAccepted node n1: "+missing.Message)
		var peers v1alpha2.BgpPeerList
		if err := w.client.List(t.Context(), &peers); err != nil {
			t.Fatal(err)
		}
		for _, p := range peers.Items {
			if _, ok := p.Status.NodesPeerStatus["n1"]; ok {
				t.Errorf("BgpPeer %s still has an entry of n1", p.Name)
			}
			if _, ok := p.Status.NodesPeerStatus["n2"]; ok != (p.Name != "router") {
				t.Errorf("BgpPeer %s lost the entry of n2", p.Name)
			}
		}
		if err := w.client.Delete(t.Context(), router()); err != nil {
			t.Fatal(err)
		}
		w.publish()
		w.expect("the BgpPeer is gone", w.after(time.Minute), "apply")
	}, router(), conf(), stale, foreign)
}

// What OpenELB's speaker left in an entry is not mixed with what is so.
func TestForeignFieldsAreReplaced(t *testing.T) {
	left := router()
	left.Status.NodesPeerStatus = map[string]v1alpha2.NodePeerStatus{"n1": {
		PeerState: &v1alpha2.PeerState{SessionState: "ESTABLISHED", AuthPassword: "secret", Queues: &v1alpha2.Queues{Output: 1},
			Messages: &v1alpha2.Messages{Sent: &v1alpha2.MessageCounts{Total: "7"}}},
		TimersState: &v1alpha2.TimersState{Downtime: "2020-01-01T00:00:00Z"},
	}}
	run(t, func(w *world) {
		w.session(testSession("ESTABLISHED", noon, 0, ""))
		w.publish()
		w.expect("start", w.after(time.Minute), "apply apply apply remove")
		e := w.entry()
		if p := e.PeerState; p.Messages != nil || p.Queues != nil || p.AuthPassword != "" || e.TimersState.Downtime != "" || p.RouterID == "" {
			t.Errorf("the entry is %+v, %+v", p, e.TimersState)
		}
		w.expect("afterwards", w.after(time.Hour), "")
	}, left, conf())
}

// A finding is told once, not again by a new process, and when it heals.
func TestFindingsAreToldOnce(t *testing.T) {
	run(t, func(w *world) {
		bad := func() {
			w.w.Publish(bgp.Config{}, bgp.Findings{
				Router: bgp.Finding{Reason: bgp.ReasonPolicyInvalid, Message: "BgpConf default: policy"},
				Peers:  map[string]bgp.Finding{"router": {Reason: bgp.ReasonTTLInvalid, Message: "BgpPeer router: ttl"}},
			}, nil)
			w.after(time.Minute)
		}
		bad()
		w.expect("told", w.told(), "Warning RouterNotReady node n1: BgpConf default: policy\nWarning PeerNotAccepted node n1: BgpPeer router: ttl")
		bad()
		w.restart()
		bad()
		w.expect("told by a new process", w.told(), "")
		w.publish()
		w.after(time.Minute)
		w.expect("healed", w.told(), "Normal RouterReady node n1 does again what the BgpConf asks\nNormal PeerAccepted node n1 does again what the BgpPeer asks")
	}, router(), conf())
}
