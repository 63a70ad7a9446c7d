package lab

import (
	"context"
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// birdProtocol is a protocol of kind BGP in "show protocols all".
type birdProtocol struct {
	session BGPSession
	// restarting: the neighbor restarts gracefully, so its routes are stale.
	restarting bool
}

// protocols are those of kind BGP with an address, by name.
func (b *bird) protocols(ctx context.Context) (map[string]*birdProtocol, error) {
	text, err := b.show(ctx, "show protocols all")
	if err != nil {
		return nil, err
	}
	return parseBirdProtocols(text), nil
}

func parseBirdProtocols(text string) map[string]*birdProtocol {
	protocols := map[string]*birdProtocol{}
	var name string
	var p *birdProtocol
	for line := range strings.Lines(text) {
		if !strings.HasPrefix(line, " ") { // the first line of a protocol
			p = nil
			if fields := strings.Fields(line); len(fields) > 3 && fields[1] == "BGP" {
				name, p = fields[0], &birdProtocol{session: BGPSession{State: "Down"}}
			}
			continue
		}
		key, value, found := strings.Cut(strings.TrimSpace(line), ":")
		if p == nil || !found {
			if p != nil && key == "Neighbor graceful restart active" {
				p.restarting = true
			}
			continue
		}
		value = strings.TrimSpace(value)
		switch key {
		case "BGP state":
			p.session.State = value
		case "Neighbor address":
			addr, _, _ := strings.Cut(value, "%")
			if p.session.Neighbor, _ = netip.ParseAddr(addr); p.session.Neighbor.IsValid() {
				protocols[name] = p
			}
		case "Neighbor AS":
			p.session.RemoteAS = number(value)
		case "Last error":
			p.session.LastError = value
		case "Hold timer":
			p.session.Hold = birdTimer(value)
		case "Keepalive timer":
			p.session.Keepalive = birdTimer(value)
		case "Routes": // 1 imported, 0 exported, 1 preferred
			imported, _, _ := strings.Cut(value, " ")
			p.session.PrefixesReceived += int(number(imported))
		}
	}
	return protocols
}

// birdTimer reads "7.123/9": what is left, and the whole.
func birdTimer(value string) time.Duration {
	_, whole, _ := strings.Cut(value, "/")
	return time.Duration(number(whole)) * time.Second
}

// number is 0 for what is none.
func number(text string) uint32 {
	n, err := strconv.ParseUint(text, 10, 32)
	if err != nil {
		return 0
	}
	return uint32(n)
}

func (b *bird) session(ctx context.Context, neighbor netip.Addr) (BGPSession, error) {
	protocols, err := b.protocols(ctx)
	if err != nil {
		return BGPSession{}, err
	}
	for _, p := range protocols {
		if p.session.Neighbor == neighbor.WithZone("") {
			return p.session, nil
		}
	}
	return BGPSession{}, errNoNeighbor
}

func (b *bird) route(ctx context.Context, prefix netip.Prefix) (BGPRoute, error) {
	protocols, err := b.protocols(ctx)
	if err != nil {
		return BGPRoute{}, err
	}
	text, err := b.show(ctx, "show route "+prefix.String()+" all")
	if err != nil {
		// birdc ends with an error where there is no such network.
		if strings.Contains(err.Error(), "Network not found") {
			return BGPRoute{Prefix: prefix}, nil
		}
		return BGPRoute{}, err
	}
	return BGPRoute{Prefix: prefix, Paths: parseBirdPaths(text, protocols)}, nil
}

// birdPath is the first line of a path: the prefix stands before the first one
// only. "192.0.2.1/32  unicast [name 12:00:00.000 from …] * (100) [AS65001i]".
var birdPath = regexp.MustCompile(`^(?:\S+)?\s+\w+ \[(\S+) [^\]]*\]( \*)? \(`)

func parseBirdPaths(text string, protocols map[string]*birdProtocol) []BGPPath {
	var paths []BGPPath
	for line := range strings.Lines(text) {
		if m := birdPath.FindStringSubmatch(line); m != nil {
			path := BGPPath{Best: m[2] != ""}
			if p := protocols[m[1]]; p != nil {
				path.Neighbor, path.Stale = p.session.Neighbor, p.restarting
			}
			paths = append(paths, path)
			continue
		}
		key, value, found := strings.Cut(strings.TrimSpace(line), ": ")
		if !found || len(paths) == 0 {
			continue
		}
		path := &paths[len(paths)-1]
		switch key {
		case "BGP.origin":
			path.Origin = value
		case "BGP.as_path":
			for _, as := range strings.Fields(value) {
				path.ASPath = append(path.ASPath, number(as))
			}
		case "BGP.next_hop":
			for _, hop := range strings.Fields(value) {
				if addr, err := netip.ParseAddr(hop); err == nil {
					path.NextHops = append(path.NextHops, addr)
				}
			}
		case "BGP.local_pref":
			path.LocalPref = new(number(value))
		case "BGP.med":
			path.MED = new(number(value))
		case "BGP.community":
			path.Communities = birdTuples(value)
		case "BGP.large_community":
			path.LargeCommunities = birdTuples(value)
		}
	}
	bestFirst(paths)
	return paths
}

// birdTuples reads "(65535,0) (65000,1)" or "(65000, 1, 2)".
func birdTuples(value string) []string {
	var tuples []string
	for tuple := range strings.SplitSeq(strings.ReplaceAll(value, " ", ""), ")") {
		if tuple = strings.TrimPrefix(tuple, "("); tuple != "" {
			tuples = append(tuples, strings.ReplaceAll(tuple, ",", ":"))
		}
	}
	slices.Sort(tuples)
	return tuples
}

func (b *bird) bfd(ctx context.Context, neighbor netip.Addr) (BFDSession, error) {
	text, err := b.show(ctx, "show bfd sessions")
	if err != nil {
		return BFDSession{}, err
	}
	for line := range strings.Lines(text) {
		// Address, interface, state, since, interval, timeout in seconds.
		fields := strings.Fields(line)
		if len(fields) < 6 || fields[0] != neighbor.WithZone("").String() {
			continue
		}
		return BFDSession{
			Neighbor:      neighbor,
			State:         fields[2],
			Multihop:      fields[1] == "---",
			MinTx:         birdSeconds(fields[4]),
			DetectionTime: birdSeconds(fields[5]),
		}, nil
	}
	return BFDSession{}, errNoNeighbor
}

func birdSeconds(text string) time.Duration {
	s, err := strconv.ParseFloat(text, 64)
	if err != nil {
		return 0
	}
	return time.Duration(s * float64(time.Second))
}
