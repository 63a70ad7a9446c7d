package e2e

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/fairway-lb/fairway/api/v1alpha2"
	"github.com/fairway-lb/fairway/test/lab"
)

// TestBGPStatus reads what an operator reads about sessions: status, events,
// metrics.
func TestBGPStatus(t *testing.T) {
	for _, kind := range []lab.RouterKind{lab.FRR, lab.BIRD} {
		t.Run(kind.String(), func(t *testing.T) {
			showBGP(t, newBGPServedWith(t, 3, []string{"--drain", "--drain-time=0s"}, eachNode(kind, 3)))
		})
	}
}

func showBGP(t *testing.T, c *cluster) {
	r := c.Router("r1")
	all := c.nodeNames()

	c.run("each node has an entry in OpenELB's form", func(t *testing.T) {
		for _, node := range all {
			entry := c.sessionIs("r1", node, v1alpha2.ConditionEstablished, metav1.ConditionTrue, "the session is established")
			c.sessionIs("r1", node, v1alpha2.ConditionAccepted, metav1.ConditionTrue)
			state, timers := entry.PeerState, entry.TimersState
			if state == nil || timers == nil {
				t.Fatalf("%s: the entry is %+v", node, entry)
			}
			got := fmt.Sprintln(state.SessionState, state.AdminState, state.LocalAS, state.PeerAS, state.PeerType, state.NeighborAddress, state.RouterID, state.Flops,
				timers.ConnectRetry, timers.HoldTime, timers.KeepaliveInterval, timers.NegotiatedHoldTime)
			if want := fmt.Sprintln("ESTABLISHED UP 50000 50001 1", r.Addr4(), r.Addr4(), "0 5 90 30 90"); got != want {
				t.Errorf("%s: the entry says %s, want %s", node, got, want)
			}
			if since, err := time.Parse(time.RFC3339, timers.Uptime); err != nil || time.Since(since) < 0 || time.Since(since) > 10*time.Minute {
				t.Errorf("%s: the session is up since %q, %v", node, timers.Uptime, err)
			}
			conf := c.routerIs(node, "True", "Ready")
			if conf.RouterID != c.Node(node).Addr4().String() || conf.AS != nodesAS {
				t.Errorf("%s: the BgpConf's entry is %+v", node, conf)
			}
			c.hasEvent("BgpPeer", "", "r1", "Normal SessionUp", "node "+node, r.Addr4().String(), "AS 50001")
		}
	})
	c.run("each node has a field manager, which owns its own entry", func(t *testing.T) {
		peer, conf := c.bgpPeer("r1"), c.bgpConf()
		c.ownEntries("nodesPeerStatus", peer.ManagedFields, all...)
		c.ownEntries("nodesConfStatus", conf.ManagedFields, all...)
	})
	c.run("metrics", func(t *testing.T) {
		labels := fmt.Sprintf(`neighbor="%s",peer="r1"`, r.Addr4())
		for _, node := range all {
			for name, want := range map[string]string{
				"fairway_bgp_session_up{" + labels + "}":                       "1",
				"fairway_bgp_session_flaps_total{" + labels + "}":              "0",
				`fairway_bgp_announced_prefixes{family="IPv4",` + labels + "}": "1",
				`fairway_bgp_accepted_prefixes{family="IPv4",` + labels + "}":  "0",
				`fairway_bgp_messages_sent_total{` + labels + `,type="open"}`:  "1",
			} {
				c.hasMetric(node, name, want)
			}
		}
		// The first Service may have been waiting for its Eip, which counts for
		// nothing.
		const converged = "fairway_bgp_convergence_seconds_count"
		before := map[string]int{}
		for _, node := range all {
			before[node] = c.counter(node, converged)
		}
		c.apply(bgpService("counted", "nginx", "bgp-eip"))
		c.hasRoute(r, "172.22.0.3/32", all...)
		for _, node := range all {
			c.hasMetric(node, `fairway_bgp_announced_prefixes{family="IPv4",`+labels+"}", "2")
			c.hasMetric(node, converged, strconv.Itoa(before[node]+1))
		}
		c.kubectl("delete", "svc", "-n", "dev", "counted")
		c.noRoute(r, "172.22.0.3/32")
	})
	c.run("a session that the router shuts down says why", func(t *testing.T) {
		const why = "maintenance until four"
		if err := r.Shutdown(t.Context(), c.Node("n2").Addr4(), why); err != nil {
			t.Fatal(err)
		}
		entry := c.sessionIs("r1", "n2", v1alpha2.ConditionEstablished, metav1.ConditionFalse, why)
		if state := entry.PeerState; state == nil || state.SessionState == "ESTABLISHED" || state.Flops != 1 || entry.TimersState.Downtime == "" {
			t.Errorf("the entry is %+v, %+v", state, entry.TimersState)
		}
		c.hasEvent("BgpPeer", "", "r1", "Warning SessionDown", "node n2", why)
		c.sessionIs("r1", "n1", v1alpha2.ConditionEstablished, metav1.ConditionTrue)
		c.hasMetric("n2", fmt.Sprintf(`fairway_bgp_session_up{neighbor="%s",peer="r1"}`, r.Addr4()), "0")
		c.hasMetric("n2", fmt.Sprintf(`fairway_bgp_session_flaps_total{neighbor="%s",peer="r1"}`, r.Addr4()), "1")
		c.hasRoute(r, "172.22.0.2/32", "n1", "n3")

		if err := r.Enable(t.Context(), c.Node("n2").Addr4()); err != nil {
			t.Fatal(err)
		}
		c.sessionIs("r1", "n2", v1alpha2.ConditionEstablished, metav1.ConditionTrue)
		c.hasRoute(r, "172.22.0.2/32", all...)
		c.hasMetric("n2", fmt.Sprintf(`fairway_bgp_session_up{neighbor="%s",peer="r1"}`, r.Addr4()), "1")
	})
	c.run("a node that is not selected has no entry", func(t *testing.T) {
		c.kubectl("label", "node", "n1", "n3", "edge=true")
		c.kubectl("patch", "bgppeer", "r1", "--type=merge", "-p", `{"spec":{"nodeSelector":{"matchLabels":{"edge":"true"}}}}`)
		c.peerHasEntries("r1", "n1", "n3")
		c.noSession(r, "n2")
		c.hasEvent("BgpPeer", "", "r1", "Warning SessionDown", "node n2", "the node ended it")
		c.kubectl("label", "node", "n1", "edge-")
		c.peerHasEntries("r1", "n3")
		c.kubectl("label", "node", "n1", "n2", "edge=true")
		c.peerHasEntries("r1", all...)
		for _, node := range all {
			c.sessionIs("r1", node, v1alpha2.ConditionEstablished, metav1.ConditionTrue)
		}
		c.hasRoute(r, "172.22.0.2/32", all...)
	})
	c.run("without a BgpConf there is no entry, and Services are told", func(t *testing.T) {
		c.kubectl("delete", "bgpconf", "default")
		c.peerHasEntries("r1")
		c.hasEvent("Service", "dev", "web", "Warning SetBalancer", `172.22.0.2 is not announced: there is no BgpConf "default"`)
		c.apply(bgpConf("listenPort: 17900"))
		c.peerHasEntries("r1", all...)
		c.hasRoute(r, "172.22.0.2/32", all...)
		c.kubectl("delete", "bgppeer", "r1")
		c.hasEvent("Service", "dev", "web", "Warning SetBalancer", "172.22.0.2 is not announced: there is no BgpPeer")
		c.apply(bgpPeer("r1", r.Addr4().String(), routersAS))
		c.peerHasEntries("r1", all...)
		c.hasRoute(r, "172.22.0.2/32", all...)
	})
	c.run("a BgpConf without an AS says so", func(t *testing.T) {
		c.patchBgpConf(`{"as":0}`)
		for _, node := range all {
			c.routerIs(node, "False", "ASMissing", "spec.as")
			c.sessionIs("r1", node, v1alpha2.ConditionAccepted, metav1.ConditionFalse)
		}
		c.patchBgpConf(`{"as":50000}`)
		for _, node := range all {
			c.sessionIs("r1", node, v1alpha2.ConditionEstablished, metav1.ConditionTrue)
		}
	})
	c.run("the entry of a Node that is gone is removed", func(t *testing.T) {
		if err := c.speakers["n3"].Stop(t.Context()); err != nil {
			t.Fatal(err)
		}
		c.kubectl("delete", "node", "n3")
		c.hasEntries("r1", "n1", "n2")
	})
	c.run("while the API server is away, sessions and routes stay", func(t *testing.T) {
		c.hasRoute(r, "172.22.0.2/32", "n1", "n2")
		sessions, watch := c.connections(r), c.watch(r, "172.22.0.2/32")
		if err := c.StopAPIServer(t.Context()); err != nil {
			t.Fatal(err)
		}
		for range 20 {
			if body, err := r.Client().Get(t.Context(), "http://172.22.0.2/"); err != nil {
				t.Errorf("%q, %v", body, err)
			}
		}
		select {
		case <-time.After(quiet):
		case <-t.Context().Done():
		}
		if err := c.StartAPIServer(t.Context()); err != nil {
			t.Fatal(err)
		}
		c.kubectl("patch", "svc", "-n", "dev", "web", "-p", `{"spec":{"externalTrafficPolicy":"Local"}}`)
		if err := c.Pod("dev", "nginx-n1").SetReady(t.Context(), false); err != nil {
			t.Fatal(err)
		}
		c.hasRoute(r, "172.22.0.2/32", "n2")
		c.sameConnections(r, sessions)
		c.noGaps(watch, "172.22.0.2/32")
	})
}

// hasEntries waits until exactly these nodes have entries in the status of a
// BgpPeer and in that of the BgpConf default.
func (c *cluster) hasEntries(peer string, nodes ...string) {
	c.t.Helper()
	c.peerHasEntries(peer, nodes...)
	c.eventually(fmt.Sprintf("%v have entries in the status of the BgpConf", nodes), func() string {
		if got := slices.Sorted(maps.Keys(c.bgpConf().Status.NodesConfStatus)); !slices.Equal(got, nodes) {
			return fmt.Sprintf("%v have", got)
		}
		return ""
	})
}

// peerHasEntries waits until exactly these nodes have entries in the status of a
// BgpPeer.
func (c *cluster) peerHasEntries(peer string, nodes ...string) {
	c.t.Helper()
	c.eventually(fmt.Sprintf("%v have entries in the status of BgpPeer %s", nodes, peer), func() string {
		if got := slices.Sorted(maps.Keys(c.bgpPeer(peer).Status.NodesPeerStatus)); !slices.Equal(got, nodes) {
			return fmt.Sprintf("%v have", got)
		}
		return ""
	})
}

// ownEntries fails the test unless each node has one field manager in the
// status, and it owns its own entry and nothing else.
func (c *cluster) ownEntries(field string, managers []metav1.ManagedFieldsEntry, nodes ...string) {
	c.t.Helper()
	var got []string
	for _, m := range managers {
		if m.Subresource != "status" {
			continue
		}
		var owned struct {
			Status map[string]map[string]any `json:"f:status"`
		}
		if err := json.Unmarshal(m.FieldsV1.GetRawBytes(), &owned); err != nil {
			c.t.Fatal(err)
		}
		var entries []string
		for name := range owned.Status["f:"+field] {
			entries = append(entries, strings.TrimPrefix(name, "f:"))
		}
		got = append(got, fmt.Sprintf("%s %s: %s", m.Manager, m.Operation, strings.Join(entries, " ")))
	}
	var want []string
	for _, node := range nodes {
		want = append(want, fmt.Sprintf("fairway-speaker-%s Apply: %s", node, node))
	}
	if slices.Sort(got); !slices.Equal(got, want) {
		c.t.Errorf("the status is managed by %q, want %q", got, want)
	}
}
