package e2e

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/fairway-lb/fairway/test/lab"
)

// dataplanes are those that work in the lab's namespaces.
var dataplanes = []string{"nftables", "iptables"}

// TestWalkthroughWithoutKubeProxy is the first day of a user, with layer 2 and
// BGP, on nodes where Fairway alone forwards.
func TestWalkthroughWithoutKubeProxy(t *testing.T) {
	for _, dataplane := range []string{"nftables", "iptables", "ipvs"} {
		t.Run(dataplane, func(t *testing.T) {
			walk := func(name string, f func(*testing.T)) {
				t.Run(name, func(t *testing.T) {
					if dataplane != "ipvs" || inGuest(t) {
						f(t)
					}
				})
			}
			walk("layer 2", func(t *testing.T) { walkThrough(t, newForwarding(t, 3, dataplane).startFairway().serve()) })
			walk("BGP", func(t *testing.T) { walkThroughBGP(t, newForwarding(t, 3, dataplane).join(nil, connectingBIRD(3))) })
		})
	}
}

// sign is in the rules that a dataplane makes.
var sign = map[string]string{"nftables": "table ip fairway {", "iptables": "FAIRWAY-SERVICES"}

// rules are all that a node's kernel has.
func (c *cluster) rules(node string) string {
	c.t.Helper()
	return c.inside(c.Node(node).Namespace, "nft", "list", "ruleset") + c.inside(c.Node(node).Namespace, "iptables-legacy-save")
}

// forwarded fails the test unless it was the speakers' dataplane, if they have
// one, that forwarded connections to an address.
func (c *cluster) forwarded(addr string) {
	c.t.Helper()
	by := func(node string) bool {
		rules := c.rules(node)
		return strings.Contains(rules, sign[c.dataplane]) && strings.Contains(rules, addr)
	}
	switch c.dataplane {
	case "":
		return
	case "ipvs":
		by = func(node string) bool {
			flows := c.inside(c.Node(node).Namespace, "cat", "/proc/net/ip_vs_conn")
			return strings.Contains(flows, fmt.Sprintf("%X", netip.MustParseAddr(addr).As4()))
		}
	}
	if !slices.ContainsFunc(c.nodeNames(), by) {
		c.t.Errorf("no node forwards %s by %s", addr, c.dataplane)
	}
}

// knocks are connections to an address, begun one after the other whether or
// not those before have come to anything.
type knocks struct {
	cancel  context.CancelFunc
	done    sync.WaitGroup
	mu      sync.Mutex // guards what follows
	became  map[string]int
	began   map[string]time.Time // when the last one began that became so
	refused []time.Time
}

// knockTimeout is how long a connection may take: a multiple of what one takes
// on a busy machine, and little enough to have few at once.
const knockTimeout = 500 * time.Millisecond

// knock begins to connect every millisecond.
func (c *cluster) knock(from *lab.Namespace, address string) *knocks {
	ctx, cancel := context.WithCancel(c.t.Context())
	k := &knocks{cancel: cancel, became: map[string]int{}, began: map[string]time.Time{}}
	c.t.Cleanup(func() { cancel(); k.done.Wait() })
	k.done.Go(func() {
		ticker := time.NewTicker(time.Millisecond)
		defer ticker.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-ticker.C:
			}
			k.done.Go(func() {
				begin := time.Now()
				ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), knockTimeout)
				defer cancel()
				conn, err := from.DialContext(ctx, "tcp", address)
				what := "connected"
				var timeout net.Error
				switch {
				case err == nil:
					conn.Close()
				case errors.Is(err, syscall.ECONNREFUSED):
					what = "refused"
				case errors.Is(err, syscall.EHOSTUNREACH), errors.Is(err, syscall.ENETUNREACH), errors.As(err, &timeout) && timeout.Timeout():
					what = "nothing"
				default:
					what = err.Error()
				}
				k.mu.Lock()
				defer k.mu.Unlock()
				k.became[what]++
				if begin.After(k.began[what]) {
					k.began[what] = begin
				}
				if what == "refused" {
					k.refused = append(k.refused, time.Now())
				}
			})
		}
	})
	return k
}

// comeTo waits until a connection that begins from now on has become something.
func (k *knocks) comeTo(c *cluster, what string) {
	c.t.Helper()
	now := time.Now()
	c.eventually("connections come to "+what, func() string {
		k.mu.Lock()
		defer k.mu.Unlock()
		if k.began[what].After(now) {
			return ""
		}
		return fmt.Sprint(k.became)
	})
}

// stop ends the connections, and fails the test for any that was refused.
func (k *knocks) stop(t *testing.T) {
	t.Helper()
	k.cancel()
	k.done.Wait()
	t.Logf("connections: %v", k.became)
	for what := range maps.Keys(k.became) {
		if what != "connected" && what != "nothing" {
			t.Errorf("%d connections came to %s, the first at %v", k.became[what], what, k.refused)
		}
	}
}

// TestNeverRefused: whoever tries all the time, from before there is a Service
// until after it is gone, is answered or is not, but never refused by a node
// that has only a part of the rules, and not by one whose last pod has left
// while it was still announced.
func TestNeverRefused(t *testing.T) {
	for _, dataplane := range dataplanes {
		t.Run(dataplane, func(t *testing.T) {
			c := newForwarding(t, 3, dataplane).join(nil, frrRouter())
			r := c.Router("r1")
			c.apply(bgpConf("listenPort: 17900"))
			c.apply(bgpPeer(r.Name(), r.Addr4().String(), int(r.Options().AS)))
			c.established(r, "n1", "n2", "n3")
			c.pods("dev", "nginx", "n1", "n2", "n3")
			c.apply(bgpEip("bgp-eip", "172.22.0.2-172.22.0.10"))
			c.apply(eip("l2-eip", "192.168.93.231-192.168.93.238"))
			for i, policy := range []string{"Cluster", "Local", "Cluster"} {
				c.run(fmt.Sprintf("%s %d", policy, i), func(t *testing.T) {
					// Who remembers the node of the Service before asks that one while
					// nobody announces, and is refused while there are no EndpointSlices.
					c.inside(c.Client().Namespace, "ip", "neigh", "flush", "to", "192.168.93.231")
					byBGP := c.knock(r.Client(), "172.22.0.2:80")
					byLayer2 := c.knock(c.Client().Namespace, "192.168.93.231:80")
					both := func(what string) {
						byBGP.comeTo(c, what)
						byLayer2.comeTo(c, what)
					}
					both("nothing")
					spec := "externalTrafficPolicy: " + policy
					c.apply(bgpService("by-bgp", "nginx", "bgp-eip", spec) + with(loadBalancer("by-layer2", "nginx", fromPool("l2-eip")), spec))
					both("connected")
					c.kubectl("delete", "svc", "-n", "dev", "by-bgp", "by-layer2")
					both("nothing")
					byBGP.stop(t)
					byLayer2.stop(t)
				})
			}
		})
	}
}

// TestKubeProxyTakeOver: Fairway begins to forward on nodes where a kube-proxy
// does, the kube-proxies end, and what they left is removed; then Fairway changes
// its dataplane. Whoever connects in the meantime is answered, and connections
// from before go on.
func TestKubeProxyTakeOver(t *testing.T) {
	for i, mode := range []string{"nftables", "iptables"} {
		first, second := dataplanes[i], dataplanes[1-i]
		t.Run("from "+mode, func(t *testing.T) {
			c := newClusterWith(t, lab.Options{Nodes: 2, KubeProxy: mode}, "")
			c.kubectl("create", "namespace", "dev")
			c.pods("dev", "nginx", "n1", "n2")
			c.apply(`
apiVersion: v1
kind: Service
metadata: {name: web, namespace: dev}
spec:
  type: NodePort
  clusterIP: 10.96.100.1
  selector: {app: nginx}
  ports:
  - {port: 80, nodePort: 30080}`)
			outside := "http://" + c.Node("n1").Addr4().String() + ":30080/"
			inside := "http://10.96.100.1/"
			c.reaches(outside, "nginx-n1", "nginx-n2")
			c.reachesFrom(c.Node("n1").Namespace, inside, "nginx-n1", "nginx-n2")

			var lasting []*lastingConnection
			for range 8 {
				lasting = append(lasting, c.last(c.Client().Namespace, outside), c.last(c.Node("n1").Namespace, inside))
			}
			fromOutside := c.ask(c.Client().Namespace, 50, outside)
			fromInside := c.ask(c.Node("n1").Namespace, 50, inside)
			c.startController()
			c.startSpeaker("n1", "--dataplane", first)
			c.startSpeaker("n2", "--dataplane", first)
			c.hasEvent("Node", "", "n1", "Warning KubeProxyRunning", "so does a kube-proxy", "--dataplane=none")
			for _, node := range c.nodeNames() {
				if err := c.KubeProxy(node).Stop(t.Context()); err != nil {
					t.Fatal(err)
				}
				c.eventually("nothing of kube-proxy is left on "+node, func() string {
					rules := c.inside(c.Node(node).Namespace, "nft", "list", "ruleset")
					if strings.Contains(rules, "kube-proxy {") || strings.Contains(rules, "KUBE-SERVICES") {
						return "its rules are"
					}
					return ""
				})
			}
			for _, node := range c.nodeNames() {
				if err := c.speakers[node].Stop(t.Context()); err != nil {
					t.Fatal(err)
				}
				c.startSpeaker(node, "--dataplane", second)
				c.eventually(first+" gives way to "+second+" on "+node, func() string {
					rules := c.rules(node)
					if strings.Contains(rules, sign[first]) || !strings.Contains(rules, sign[second]) {
						return rules
					}
					return ""
				})
			}
			for _, l := range lasting {
				l.goesOn(t)
			}
			fromOutside.stop(c)
			fromInside.stop(c)
			c.reaches(outside, "nginx-n1", "nginx-n2")
		})
	}
}

// lastingConnection is one connection that requests are sent on.
type lastingConnection struct {
	url    string
	client *http.Client
	dials  int
}

// last opens a connection.
func (c *cluster) last(from *lab.Namespace, url string) *lastingConnection {
	c.t.Helper()
	l := &lastingConnection{url: url}
	transport := &http.Transport{MaxConnsPerHost: 1, DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
		l.dials++
		return from.DialContext(ctx, network, address)
	}}
	l.client = &http.Client{Transport: transport, Timeout: 10 * time.Second}
	c.t.Cleanup(transport.CloseIdleConnections)
	l.goesOn(c.t)
	return l
}

// goesOn sends a request on the connection, and fails the test if it takes
// another one.
func (l *lastingConnection) goesOn(t *testing.T) {
	t.Helper()
	response, err := l.client.Get(l.url)
	if err != nil {
		t.Errorf("%s, on a connection: %v", l.url, err)
		return
	}
	defer response.Body.Close()
	if _, err := io.Copy(io.Discard, response.Body); err != nil {
		t.Errorf("%s, on a connection: %v", l.url, err)
	}
	if l.dials != 1 {
		t.Errorf("%s took %d connections", l.url, l.dials)
	}
}

// TestDataplaneSurroundings is what is around the rules: health for load
// balancers, a node whose kernel cannot be changed, and what removes all.
func TestDataplaneSurroundings(t *testing.T) {
	c := newForwarding(t, 2, "nftables")
	// Somebody holds a table of the name, for as long as he lives.
	held := c.Node("n1").Command(t.Context(), "nft", "--interactive")
	input, err := held.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := held.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = held.Process.Kill(); _ = held.Wait() })
	if _, err := io.WriteString(input, "add table ip fairway { flags owner; }\n"); err != nil {
		t.Fatal(err)
	}
	c.eventually("the table is there", func() string {
		if tables := c.inside(c.Node("n1").Namespace, "nft", "list", "tables"); !strings.Contains(tables, "table ip fairway") {
			return tables
		}
		return ""
	})
	c.startFairway()
	c.kubectl("create", "namespace", "dev")
	c.pods("dev", "nginx", "n1", "n2")
	c.apply(eip("l2-eip", "192.168.93.231-192.168.93.238"))
	answeredBy := func(t *testing.T, nodes ...string) {
		t.Helper()
		c.eventually(fmt.Sprintf("%v answer", nodes), func() string {
			owners := map[string]bool{}
			for i := range 8 {
				for _, owner := range c.owners(fmt.Sprintf("192.168.93.%d", 231+i)) {
					owners[owner] = true
				}
			}
			if got := slices.Sorted(maps.Keys(owners)); !slices.Equal(got, nodes) {
				return fmt.Sprintf("%v do", got)
			}
			return ""
		})
	}
	c.run("a node whose kernel cannot be changed leaves addresses to others", func(t *testing.T) {
		for i := range 8 {
			c.apply(loadBalancer(fmt.Sprintf("web-%d", i), "nginx", fromPool("l2-eip")))
		}
		answeredBy(t, "n2")
		c.reaches("http://192.168.93.231/", "nginx-n1", "nginx-n2")
	})
	c.run("and has its part again when it can", func(t *testing.T) {
		if err := input.Close(); err != nil {
			t.Fatal(err)
		}
		answeredBy(t, "n1", "n2")
	})
	c.run("load balancers are told where to send", func(t *testing.T) {
		health := "http://" + c.Node("n2").Addr4().String() + ":10256/healthz"
		if body, err := c.Get(t.Context(), health); err != nil || !strings.Contains(body, `"nodeEligible":true`) {
			t.Errorf("%s: %q, %v", health, body, err)
		}
		c.apply(with(loadBalancer("local", "nginx", fromPool("l2-eip")), policyLocal))
		port := c.kubectl("get", "svc", "-n", "dev", "local", "-o", "jsonpath={.spec.healthCheckNodePort}")
		c.eventually("the health-check port counts one endpoint", func() string {
			body, err := c.Get(t.Context(), "http://"+c.Node("n2").Addr4().String()+":"+port+"/")
			if err != nil || !strings.Contains(body, `"localEndpoints": 1`) {
				return fmt.Sprintf("%q, %v", body, err)
			}
			return ""
		})
	})
	c.run("rules outlast the speaker, and cleanup removes them", func(t *testing.T) {
		speaker := c.speakers["n2"]
		if err := speaker.Kill(); err != nil {
			t.Fatal(err)
		}
		tables := func() string { return c.inside(c.Node("n2").Namespace, "nft", "list", "tables") }
		if got := tables(); !strings.Contains(got, "table ip fairway") || !strings.Contains(got, "table ip6 fairway") {
			t.Errorf("after the speaker's end: %q", got)
		}
		program, err := c.Program("fairway-speaker")
		if err != nil {
			t.Fatal(err)
		}
		for range 2 {
			c.inside(c.Node("n2").Namespace, program, "cleanup")
			if got := tables(); strings.Contains(got, "fairway") {
				t.Errorf("after cleanup: %q", got)
			}
		}
	})
}
