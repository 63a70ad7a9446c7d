package lab

import (
	"context"
	"encoding/json"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"
)

// query asks a daemon for a value in JSON.
func (f *frr) query(ctx context.Context, into any, daemon, command string) error {
	text, err := f.ask(ctx, daemon, command)
	if err != nil {
		return err
	}
	if err := json.Unmarshal([]byte(text), into); err != nil {
		return fmt.Errorf("read the answer to %q: %w: %s", command, err, text)
	}
	return nil
}

// frrNeighborJSON is what of "show bgp neighbors json" the lab reads.
type frrNeighborJSON struct {
	Address    string `json:"bgpNeighborAddr"` // of an unnumbered neighbor, "none" at first
	RemoteAS   uint32 `json:"remoteAs"`
	State      string `json:"bgpState"`
	Hold       int    `json:"bgpTimerHoldTimeMsecs"`
	Keepalive  int    `json:"bgpTimerKeepAliveIntervalMsecs"`
	Dropped    int    `json:"connectionsDropped"`
	Reset      string `json:"lastResetDueTo"`
	Reason     string `json:"lastNotificationReason"`
	Text       string `json:"lastShutdownDescription"`
	FamilyInfo map[string]struct {
		Accepted int `json:"acceptedPrefixCounter"`
	} `json:"addressFamilyInfo"`
}

func (f *frr) session(ctx context.Context, neighbor netip.Addr) (BGPSession, error) {
	var answer map[string]json.RawMessage
	if err := f.query(ctx, &answer, "bgpd", "show bgp neighbors json"); err != nil {
		return BGPSession{}, err
	}
	for name, raw := range answer {
		var n frrNeighborJSON
		if json.Unmarshal(raw, &n) != nil {
			continue // not a neighbor
		}
		who := neighbor.WithZone("").String()
		if name != who && n.Address != who {
			continue
		}
		s := BGPSession{
			Neighbor:  neighbor,
			State:     n.State,
			RemoteAS:  n.RemoteAS,
			LastError: strings.Join(slices.DeleteFunc([]string{n.Reset, n.Reason, n.Text}, func(s string) bool { return s == "" }), ": "),
			Hold:      time.Duration(n.Hold) * time.Millisecond,
			Keepalive: time.Duration(n.Keepalive) * time.Millisecond,
			Flaps:     n.Dropped,
		}
		for _, family := range n.FamilyInfo {
			s.PrefixesReceived += family.Accepted
		}
		return s, nil
	}
	return BGPSession{}, errNoNeighbor
}

// frrPathJSON is what of "show bgp PREFIX json" the lab reads.
type frrPathJSON struct {
	ASPath struct {
		Segments []struct {
			List []uint32 `json:"list"`
		} `json:"segments"`
	} `json:"aspath"`
	Origin    string  `json:"origin"`
	MED       *uint32 `json:"metric"`
	LocalPref *uint32 `json:"locPrf"`
	Stale     bool    `json:"stale"`
	Community struct {
		String string `json:"string"`
	} `json:"community"`
	LargeCommunity struct {
		String string `json:"string"`
	} `json:"largeCommunity"`
	Bestpath struct {
		Overall bool `json:"overall"`
	} `json:"bestpath"`
	NextHops []struct {
		IP string `json:"ip"`
	} `json:"nexthops"`
	Peer struct {
		ID string `json:"peerId"`
	} `json:"peer"`
}

func (f *frr) route(ctx context.Context, prefix netip.Prefix) (BGPRoute, error) {
	family := "ipv4"
	if prefix.Addr().Is6() {
		family = "ipv6"
	}
	var answer struct {
		Paths []frrPathJSON `json:"paths"`
	}
	if err := f.query(ctx, &answer, "bgpd", fmt.Sprintf("show bgp %s unicast %s json", family, prefix)); err != nil {
		return BGPRoute{}, err
	}
	route := BGPRoute{Prefix: prefix}
	for _, p := range answer.Paths {
		path := BGPPath{
			Origin:           p.Origin,
			LocalPref:        p.LocalPref,
			MED:              p.MED,
			Stale:            p.Stale,
			Best:             p.Bestpath.Overall,
			LargeCommunities: sortedFields(p.LargeCommunity.String),
		}
		path.Communities = sortedFields(p.Community.String)
		for i, c := range path.Communities {
			if number, ok := frrWellKnown[c]; ok {
				path.Communities[i] = number
			}
		}
		slices.Sort(path.Communities)
		for _, segment := range p.ASPath.Segments {
			path.ASPath = append(path.ASPath, segment.List...)
		}
		for _, hop := range p.NextHops {
			if addr, err := netip.ParseAddr(hop.IP); err == nil && !addr.IsUnspecified() {
				path.NextHops = append(path.NextHops, addr)
			}
		}
		// An own path has no peer's address but "0.0.0.0" or "::".
		if addr, err := netip.ParseAddr(p.Peer.ID); err == nil && !addr.IsUnspecified() {
			path.Neighbor = addr
		}
		route.Paths = append(route.Paths, path)
	}
	bestFirst(route.Paths)
	return route, nil
}

// frrWellKnown are the communities that FRR writes as names.
var frrWellKnown = map[string]string{
	"graceful-shutdown": "65535:0",
	"accept-own":        "65535:1",
	"llgr-stale":        "65535:6",
	"no-llgr":           "65535:7",
	"blackhole":         "65535:666",
	"no-export":         "65535:65281",
	"no-advertise":      "65535:65282",
	"local-AS":          "65535:65283",
	"no-peer":           "65535:65284",
}

func sortedFields(text string) []string {
	fields := strings.Fields(text)
	slices.Sort(fields)
	return fields
}

func bestFirst(paths []BGPPath) {
	slices.SortStableFunc(paths, func(a, b BGPPath) int {
		switch {
		case a.Best == b.Best:
			return a.Neighbor.Compare(b.Neighbor)
		case a.Best:
			return -1
		}
		return 1
	})
}

// frrBFDJSON is what of "show bfd peers json" the lab reads; times are
// milliseconds.
type frrBFDJSON struct {
	Peer             string `json:"peer"`
	Multihop         bool   `json:"multihop"`
	Status           string `json:"status"`
	Diagnostic       string `json:"diagnostic"`
	RemoteDiagnostic string `json:"remote-diagnostic"`
	Transmit         int    `json:"transmit-interval"`
	Receive          int    `json:"receive-interval"`
	Multiplier       int    `json:"detect-multiplier"`
	RemoteTransmit   int    `json:"remote-transmit-interval"`
	RemoteMultiplier int    `json:"remote-detect-multiplier"`
}

func (f *frr) bfd(ctx context.Context, neighbor netip.Addr) (BFDSession, error) {
	var peers []frrBFDJSON
	if err := f.query(ctx, &peers, "bfdd", "show bfd peers json"); err != nil {
		return BFDSession{}, err
	}
	var counters []struct {
		Peer  string `json:"peer"`
		Downs int    `json:"session-down"`
	}
	if err := f.query(ctx, &counters, "bfdd", "show bfd peers counters json"); err != nil {
		return BFDSession{}, err
	}
	who := neighbor.WithZone("").String()
	for _, p := range peers {
		if p.Peer != who {
			continue
		}
		s := BFDSession{
			Neighbor:         neighbor,
			State:            map[string]string{"up": "Up", "init": "Init", "shutdown": "AdminDown"}[p.Status],
			MinTx:            time.Duration(p.Transmit) * time.Millisecond,
			MinRx:            time.Duration(p.Receive) * time.Millisecond,
			DetectionTime:    time.Duration(p.RemoteMultiplier*max(p.Receive, p.RemoteTransmit)) * time.Millisecond,
			Multihop:         p.Multihop,
			Diagnostic:       p.Diagnostic,
			RemoteDiagnostic: p.RemoteDiagnostic,
		}
		if s.State == "" {
			s.State = "Down"
		}
		for _, c := range counters {
			if c.Peer == who {
				s.Downs = c.Downs
			}
		}
		return s, nil
	}
	return BFDSession{}, errNoNeighbor
}
