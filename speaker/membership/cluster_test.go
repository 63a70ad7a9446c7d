package membership

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"log"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-logr/logr"
	"github.com/go-logr/logr/funcr"
	"github.com/hashicorp/memberlist"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/fairway-lb/fairway/speaker/rendezvous"
)

const (
	testPool = "pool"
	// patience is how long a test waits for anything; a failure takes that long.
	patience = 30 * time.Second
)

// network is what answers for addresses, as a client would see it.
type network struct {
	t  *testing.T
	mu sync.Mutex
	// owners are the nodes that answer for each address.
	owners map[netip.Addr]map[string]bool
	down   map[string]bool // whose process is no more
	// partitioned allows that two nodes answer.
	partitioned bool
	changed     chan struct{} // closed and replaced at each change
}

func newNetwork(t *testing.T) *network {
	return &network{t: t, owners: map[netip.Addr]map[string]bool{}, down: map[string]bool{}, changed: make(chan struct{})}
}

// apply is a node's Apply. Old addresses fall silent last, when any consent
// sent too early would have made another node answer.
func (n *network) apply(name string, held map[netip.Addr]string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.down[name] {
		return
	}
	for addr := range held {
		if n.owners[addr] == nil {
			n.owners[addr] = map[string]bool{}
		}
		n.owners[addr][name] = true
		if len(n.owners[addr]) > 1 && !n.partitioned {
			n.t.Errorf("%s is answered by %v at one time", addr, slices.Sorted(maps.Keys(n.owners[addr])))
		}
	}
	n.silence(name, held)
}

func (n *network) silence(name string, but map[netip.Addr]string) {
	for addr, owners := range n.owners {
		if _, ok := but[addr]; !ok {
			delete(owners, name)
		}
	}
	close(n.changed)
	n.changed = make(chan struct{})
}

func (n *network) setDown(name string, down bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.down[name] = down
	n.silence(name, nil)
}

// await waits until each address is answered by its owner among the nodes.
func (n *network) await(addrs []netip.Addr, nodes ...string) {
	n.t.Helper()
	n.awaitOwners(addrs, func(addr netip.Addr) []string { return []string{rendezvous.First(addr, nodes)} })
}

func (n *network) awaitOwners(addrs []netip.Addr, want func(netip.Addr) []string) {
	n.t.Helper()
	deadline := time.After(patience)
	for {
		n.mu.Lock()
		wrong := ""
		for _, addr := range addrs {
			if owners := slices.Sorted(maps.Keys(n.owners[addr])); !slices.Equal(owners, want(addr)) {
				wrong = fmt.Sprintf("%s is answered by %v, want %v", addr, owners, want(addr))
			}
		}
		changed := n.changed
		n.mu.Unlock()
		if wrong == "" {
			return
		}
		select {
		case <-changed:
		case <-deadline:
			n.t.Fatal(wrong)
		}
	}
}

// node is a speaker with a plan as simple as can be: the owner among the
// members that serve the pool answers.
type node struct {
	*Cluster
	net     *network
	name    string
	planned chan struct{} // a signal after each plan
	done    chan struct{}
}

// Changed is for tests; the Cluster's own signals go to the plan.
func (n *node) Changed() <-chan struct{} { return n.planned }

var testKey = sha256.Sum256([]byte("test"))

func testConfig(name string) Config {
	return Config{
		NodeName: name,
		BindAddr: netip.MustParseAddr("127.0.0.1"),
		Key:      testKey[:],
		// Slower than the default, so that no member is taken for dead on a
		// machine that is busy with other tests: then two nodes may answer.
		ProbeInterval:       200 * time.Millisecond,
		SuspicionMultiplier: 4,
		Apply:               func(map[netip.Addr]string) error { return nil },
		Log:                 logr.Discard(),
	}
}

func mustStart(t *testing.T, cfg Config) *Cluster {
	t.Helper()
	c, err := Start(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { crash(c) })
	return c
}

// crash ends a member without a word, unless it has left.
func crash(c *Cluster) {
	c.leave.Do(func() {
		_ = c.gossip.Shutdown()
		close(c.stop)
		c.stopped.Wait()
	})
}

// startNode starts a node that serves the pool but plans nothing yet.
func startNode(t *testing.T, net *network, name string, port int) *node {
	t.Helper()
	net.setDown(name, false)
	cfg := testConfig(name)
	cfg.BindPort = port
	cfg.Apply = func(held map[netip.Addr]string) error { net.apply(name, held); return nil }
	n := &node{Cluster: mustStart(t, cfg), net: net, name: name, planned: make(chan struct{}, 1), done: make(chan struct{})}
	t.Cleanup(func() { close(n.done) })
	n.SetServed([]string{testPool})
	return n
}

func (n *node) plan(addrs []netip.Addr) {
	for {
		var candidates []string
		for _, m := range n.Members() {
			if m.Serves(testPool) {
				candidates = append(candidates, m.Name)
			}
		}
		want := map[netip.Addr]string{}
		for _, addr := range addrs {
			if rendezvous.First(addr, candidates) == n.name {
				want[addr] = "eth0"
			}
		}
		n.Want(want)
		signal(n.planned)
		select {
		case <-n.Cluster.Changed():
		case <-n.done:
			return
		}
	}
}

func (n *node) crash() {
	n.net.setDown(n.name, true)
	crash(n.Cluster)
}

func addrOf(c *Cluster) netip.AddrPort {
	for _, m := range c.Members() {
		if m.Name == c.cfg.NodeName {
			return m.Addr
		}
	}
	return netip.AddrPort{}
}

// view is a Cluster or a node.
type view interface {
	Members() []Member
	Changed() <-chan struct{}
}

// awaitMembers waits for a view of the cluster.
func awaitMembers(t *testing.T, c view, what string, ok func([]Member) bool) {
	t.Helper()
	deadline := time.After(patience)
	for !ok(c.Members()) {
		select {
		case <-c.Changed():
		case <-deadline:
			t.Fatalf("%s: members are %+v", what, c.Members())
		}
	}
}

func testAddrs(n int) []netip.Addr {
	addrs := []netip.Addr{netip.MustParseAddr("2001:db8::1")}
	addr := netip.MustParseAddr("192.0.2.0")
	for len(addrs) < n {
		addr = addr.Next()
		addrs = append(addrs, addr)
	}
	return addrs
}

func startNodes(t *testing.T, net *network, addrs []netip.Addr, names ...string) map[string]*node {
	t.Helper()
	nodes := map[string]*node{}
	var peers []netip.AddrPort
	for _, name := range names {
		// The first knows nobody, and owns everything until others come.
		n := startNode(t, net, name, 0)
		go n.plan(addrs)
		n.Join(t.Context(), peers)
		peers = append(peers, addrOf(n.Cluster))
		nodes[name] = n
	}
	return nodes
}

// The life of a cluster, with never two nodes that answer for one address:
// nodes join one by one, crash, come back under their name, and leave.
func TestCluster(t *testing.T) {
	for _, size := range []int{3, 5} {
		t.Run(fmt.Sprintf("nodes=%d", size), func(t *testing.T) {
			t.Parallel()
			var names []string
			for i := range size {
				names = append(names, fmt.Sprintf("n%d", i))
			}
			addrs := testAddrs(40)
			net := newNetwork(t)
			// A node that starts is alone until it has joined, and takes all.
			net.partitioned = true
			nodes := startNodes(t, net, addrs, names...)
			net.await(addrs, names...)
			net.mu.Lock()
			net.partitioned = false
			net.mu.Unlock()

			victim := rendezvous.First(addrs[0], names)
			rest := slices.DeleteFunc(slices.Clone(names), func(n string) bool { return n == victim })
			at := addrOf(nodes[victim].Cluster)
			nodes[victim].crash()
			net.await(addrs, rest...)

			// Back under its name. It plans nothing before it has joined, as
			// a speaker that starts.
			back := startNode(t, net, victim, int(at.Port()))
			back.Join(t.Context(), []netip.AddrPort{addrOf(nodes[rest[0]].Cluster)})
			awaitMembers(t, back.Cluster, "after the restart", func(m []Member) bool { return len(m) == size })
			go back.plan(addrs)
			net.await(addrs, names...)

			leaver := nodes[rest[0]]
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			if err := leaver.Leave(ctx); err != nil || ctx.Err() != nil {
				t.Errorf("Leave: %v, context: %v", err, ctx.Err())
			}
			if err := leaver.Leave(ctx); err != nil {
				t.Errorf("Leave again: %v", err)
			}
			remaining := slices.DeleteFunc(slices.Clone(names), func(n string) bool { return n == rest[0] })
			net.await(addrs, remaining...)
			awaitMembers(t, back, "after one left", func(m []Member) bool { return len(m) == size-1 })
		})
	}
}

// A process so quickly back that nobody saw it go.
func TestQuickRestart(t *testing.T) {
	t.Parallel()
	net := newNetwork(t)
	names := []string{"n0", "n1", "n2"}
	addrs := testAddrs(20)
	net.partitioned = true
	nodes := startNodes(t, net, addrs, names...)
	net.await(addrs, names...)
	net.mu.Lock()
	net.partitioned = false
	net.mu.Unlock()
	for range 3 {
		at := addrOf(nodes["n0"].Cluster)
		nodes["n0"].crash()
		back := startNode(t, net, "n0", int(at.Port()))
		back.Join(t.Context(), []netip.AddrPort{addrOf(nodes["n1"].Cluster)})
		awaitMembers(t, back.Cluster, "after the restart", func(m []Member) bool { return len(m) == len(names) })
		go back.plan(addrs)
		net.await(addrs, names...)
		nodes["n0"] = back
	}
}

// Two nodes that each own all, being alone, meet.
func TestHealedSplit(t *testing.T) {
	t.Parallel()
	net := newNetwork(t)
	net.partitioned = true
	addrs := testAddrs(10)
	a := startNode(t, net, "n0", 0)
	b := startNode(t, net, "n1", 0)
	want := map[netip.Addr]string{}
	for _, addr := range addrs {
		want[addr] = "eth0"
	}
	a.Want(want) // both go on wanting all
	b.Want(want)
	net.awaitOwners(addrs, func(netip.Addr) []string { return []string{"n0", "n1"} })
	a.Join(t.Context(), []netip.AddrPort{addrOf(b.Cluster)})
	net.await(addrs, "n0", "n1")
}

func TestServedPoolsAreGossiped(t *testing.T) {
	t.Parallel()
	reg := prometheus.NewRegistry()
	cfg := testConfig("a")
	cfg.Registerer = reg
	a, b := mustStart(t, cfg), mustStart(t, testConfig("b"))
	a.Join(t.Context(), []netip.AddrPort{addrOf(b)})
	serves := func(pool string, want bool) func([]Member) bool {
		return func(members []Member) bool {
			return slices.ContainsFunc(members, func(m Member) bool { return m.Name == "a" && m.Serves(pool) == want })
		}
	}
	a.SetServed([]string{"x"})
	for _, c := range []*Cluster{a, b} {
		awaitMembers(t, c, "a serves x", serves("x", true))
	}
	var pools []string
	for i := range 200 {
		pools = append(pools, fmt.Sprintf("pool-%03d", i))
	}
	a.SetServed(pools)
	awaitMembers(t, b, "a serves many", serves("pool-000", true))
	awaitMembers(t, b, "a serves x no more", serves("x", false))
	if left := metric(t, reg, "fairway_membership_unadvertised_pools"); left != 200-maxScopes {
		t.Errorf("%v pools are not advertised, want %d", left, 200-maxScopes)
	}
	if members := metric(t, reg, "fairway_membership_members"); members != 2 {
		t.Errorf("the metric counts %v members, want 2", members)
	}
}

// lines collects what is logged, and signals each line.
type lines struct {
	mu   sync.Mutex
	all  strings.Builder
	more chan struct{}
}

func newLines() *lines { return &lines{more: make(chan struct{}, 1)} }

func (l *lines) logger() logr.Logger {
	return funcr.New(func(_, args string) {
		l.mu.Lock()
		l.all.WriteString(args + "\n")
		l.mu.Unlock()
		signal(l.more)
	}, funcr.Options{})
}

func (l *lines) await(t *testing.T, text string) {
	t.Helper()
	deadline := time.After(patience)
	for {
		l.mu.Lock()
		all := l.all.String()
		l.mu.Unlock()
		if strings.Contains(all, text) {
			return
		}
		select {
		case <-l.more:
		case <-deadline:
			t.Fatalf("nothing was logged with %q:\n%s", text, all)
		}
	}
}

func TestWrongKeyIsRefused(t *testing.T) {
	t.Parallel()
	logs := []*lines{newLines(), newLines()}
	wrong := sha256.Sum256([]byte("wrong"))
	cfg := testConfig("a")
	cfg.Log = logs[0].logger()
	a := mustStart(t, cfg)
	cfg = testConfig("b")
	cfg.Key, cfg.Log = wrong[:], logs[1].logger()
	b := mustStart(t, cfg)
	b.Join(t.Context(), []netip.AddrPort{addrOf(a)})
	logs[0].await(t, "another key")
	a.Join(t.Context(), []netip.AddrPort{addrOf(b)})
	logs[1].await(t, "another key")
	if len(a.Members()) != 1 || len(b.Members()) != 1 {
		t.Errorf("members are %v and %v", a.Members(), b.Members())
	}

	plain, _ := startPlainMember(t, nil)
	if _, err := plain.Join([]string{addrOf(a).String()}); err == nil || plain.NumMembers() != 1 {
		t.Errorf("a process without a key joined: %v", err)
	}
}

// startPlainMember starts a member that gossips but knows nothing of claims.
func startPlainMember(t *testing.T, key []byte) (*memberlist.Memberlist, netip.AddrPort) {
	t.Helper()
	cfg := memberlist.DefaultLocalConfig()
	cfg.Name, cfg.BindAddr, cfg.BindPort, cfg.SecretKey = "plain", "127.0.0.1", 0, key
	cfg.Logger = log.New(io.Discard, "", 0)
	m, err := memberlist.Create(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = m.Shutdown() })
	return m, netip.AddrPortFrom(netip.MustParseAddr(cfg.BindAddr), uint16(cfg.BindPort))
}

func TestSilentMemberDoesNotHoldUpAnAddress(t *testing.T) {
	t.Parallel()
	net, logs := newNetwork(t), newLines()
	cfg := testConfig("a")
	reg := prometheus.NewRegistry()
	cfg.Log, cfg.Registerer = logs.logger(), reg
	cfg.Apply = func(held map[netip.Addr]string) error { net.apply("a", held); return nil }
	a := mustStart(t, cfg)
	_, plain := startPlainMember(t, testKey[:])
	a.Join(t.Context(), []netip.AddrPort{plain})
	awaitMembers(t, a, "after joining", func(m []Member) bool { return len(m) == 2 })
	a.Want(map[netip.Addr]string{vip: "eth0"})
	net.await([]netip.Addr{vip}, "a")
	logs.await(t, "does not answer")
	if n := metric(t, reg, "fairway_membership_claims_overridden_total"); n != 1 {
		t.Errorf("%v overrides counted, want 1", n)
	}
}

func TestFailedApplyIsRepeated(t *testing.T) {
	t.Parallel()
	applied := make(chan map[netip.Addr]string, 100)
	failures := 3
	reg := prometheus.NewRegistry()
	cfg := testConfig("a")
	cfg.Registerer = reg
	cfg.Apply = func(held map[netip.Addr]string) error {
		applied <- held
		if failures--; failures >= 0 {
			return errors.New("no such interface")
		}
		return nil
	}
	a := mustStart(t, cfg)
	a.Want(map[netip.Addr]string{vip: "eth0"})
	for i := range 4 {
		select {
		case held := <-applied:
			if !maps.Equal(held, map[netip.Addr]string{vip: "eth0"}) {
				t.Errorf("Apply %d of %v", i, held)
			}
		case <-time.After(patience):
			t.Fatalf("only %d Applies", i)
		}
	}
	if n := metric(t, reg, "fairway_membership_apply_errors_total"); n != 3 {
		t.Errorf("%v errors counted, want 3", n)
	}
	if err := a.Leave(t.Context()); err != nil {
		t.Errorf("Leave: %v", err)
	}
	if len(applied) != 1 || len(<-applied) != 0 {
		t.Error("no last Apply of nothing")
	}
}

// metric returns the value of a gauge or counter without labels.
func metric(t *testing.T, reg *prometheus.Registry, name string) float64 {
	t.Helper()
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, family := range families {
		if family.GetName() == name {
			m := family.GetMetric()[0]
			return m.GetGauge().GetValue() + m.GetCounter().GetValue()
		}
	}
	t.Fatalf("no metric %s", name)
	return 0
}

// What nobody can take is answered until the last moment.
func TestLeaveWithNobodyToTakeOver(t *testing.T) {
	t.Parallel()
	net := newNetwork(t)
	addrs := testAddrs(5)
	a := startNode(t, net, "a", 0)
	go a.plan(addrs)
	b := mustStart(t, testConfig("b")) // serves nothing
	a.Join(t.Context(), []netip.AddrPort{addrOf(b)})
	net.await(addrs, "a")
	awaitServing := func(serves bool) {
		awaitMembers(t, b, fmt.Sprintf("a serves the pool: %v", serves), func(members []Member) bool {
			return slices.ContainsFunc(members, func(m Member) bool { return m.Name == "a" && m.Serves(testPool) == serves })
		})
	}
	awaitServing(true)
	ctx, cancel := context.WithCancel(t.Context())
	left := make(chan error)
	go func() { left <- a.Leave(ctx) }()
	awaitServing(false)
	net.await(addrs, "a")
	// The plan goes on meanwhile, and knows of no exit.
	a.SetServed([]string{testPool})
	if served := decodeMeta(*a.meta.Load()); len(served) > 0 {
		t.Error("a node that leaves stands for a pool again")
	}
	cancel()
	if err := <-left; err != nil {
		t.Error(err)
	}
	net.mu.Lock()
	defer net.mu.Unlock()
	for addr, owners := range net.owners {
		if len(owners) > 0 {
			t.Errorf("%s is still answered by %v", addr, owners)
		}
	}
}

func TestStartRefusesBadConfigurations(t *testing.T) {
	taken := mustStart(t, testConfig("taken"))
	for name, change := range map[string]func(*Config){
		"no name":           func(c *Config) { c.NodeName = "" },
		"long name":         func(c *Config) { c.NodeName = strings.Repeat("x", 254) },
		"no key":            func(c *Config) { c.Key = nil },
		"short key":         func(c *Config) { c.Key = c.Key[:15] },
		"no address":        func(c *Config) { c.BindAddr = netip.Addr{} },
		"nothing advertise": func(c *Config) { c.BindAddr = netip.IPv4Unspecified() },
		"no Apply":          func(c *Config) { c.Apply = nil },
		"port taken":        func(c *Config) { c.BindPort = int(addrOf(taken).Port()) },
	} {
		cfg := testConfig("n")
		cfg.Registerer = prometheus.NewRegistry()
		change(&cfg)
		if c, err := Start(cfg); err == nil {
			crash(c)
			t.Errorf("%s: started", name)
		}
		// What failed leaves no metrics behind.
		if m, err := newMetrics(cfg.Registerer); err != nil {
			t.Errorf("%s: %v", name, err)
		} else {
			m.unregister(cfg.Registerer)
		}
	}
}

func TestUnspecifiedBindAddress(t *testing.T) {
	cfg := testConfig("n")
	cfg.BindAddr, cfg.AdvertiseAddr = netip.IPv6Unspecified(), netip.MustParseAddr("127.0.0.1")
	a, b := mustStart(t, cfg), mustStart(t, testConfig("b"))
	if addr := addrOf(a).Addr(); addr != cfg.AdvertiseAddr {
		t.Errorf("advertises %s", addr)
	}
	b.Join(t.Context(), []netip.AddrPort{addrOf(a)})
	awaitMembers(t, a, "after joining", func(m []Member) bool { return len(m) == 2 })
}

func TestLogLevels(t *testing.T) {
	for verbosity, want := range []int{1, 3, 4} {
		var out bytes.Buffer
		w := newLogWriter(funcr.New(func(_, args string) { out.WriteString(args + "\n") }, funcr.Options{Verbosity: verbosity}))
		for _, line := range []string{
			"[DEBUG] memberlist: Stream connection from=127.0.0.1:1",
			"[ERR] memberlist: Failed to send UDP ping: x",
			"[ERR] memberlist: Decrypt packet failed: no installed keys could decrypt the message from=127.0.0.1:1",
			"[ERR] memberlist: Decrypt packet failed: no installed keys could decrypt the message from=127.0.0.1:1",
		} {
			if n, err := w.Write([]byte(line + "\n")); err != nil || n != len(line)+1 {
				t.Errorf("Write: %d, %v", n, err)
			}
		}
		if got := strings.Count(out.String(), "\n"); got != want {
			t.Errorf("%d lines at verbosity %d, want %d:\n%s", got, verbosity, want, out.String())
		}
	}
}
