package bgp

import (
	"net/netip"
	"time"

	api "github.com/osrg/gobgp/v3/api"
)

// maxPrefixes is how many routes of a family a neighbor may announce before the
// session is closed. It bounds programs that were built without the guard of
// build/gobgp, which keeps none: GoBGP keeps routes that nobody uses, at about
// 400 bytes each, more where each has attributes of its own: some 10 MiB.
const maxPrefixes = 20_000

// idleHoldTime is how long a session that was reset stays idle before it
// connects again; GoBGP's own default is 30 s.
const idleHoldTime = time.Second

// peerOf is a session as GoBGP's API has it. What GoBGP has no use for is not in
// it, and so never resets the session.
func (s *Server) peerOf(p Peer, address netip.Addr) *api.Peer {
	gr := p.GracefulRestart
	peer := &api.Peer{
		Conf: &api.PeerConf{
			NeighborAddress: address.String(),
			PeerAsn:         p.AS,
			LocalAsn:        p.LocalAS,
			AuthPassword:    p.Password,
			AllowOwnAsn:     p.AllowOwnAS,
			ReplacePeerAsn:  p.ReplacePeerAS,
			RemovePrivate:   api.RemovePrivate(api.RemovePrivate_value[removePrivate(p.RemovePrivateAS)]),
		},
		Timers: timersOf(p),
		Transport: &api.Transport{
			RemotePort:  uint32(p.Port),
			PassiveMode: p.Passive,
			TcpMss:      uint32(p.TCPMSS),
		},
		EbgpMultihop: &api.EbgpMultihop{Enabled: p.MultihopTTL > 0, MultihopTtl: uint32(p.MultihopTTL)},
		TtlSecurity:  &api.TtlSecurity{Enabled: p.MinTTL > 0, TtlMin: uint32(p.MinTTL)},
		GracefulRestart: &api.GracefulRestart{
			Enabled:             gr.Enabled,
			HelperOnly:          gr.HelperOnly,
			RestartTime:         seconds32(gr.RestartTime),
			DeferralTime:        seconds32(gr.DeferralTime),
			NotificationEnabled: gr.Notification,
			LonglivedEnabled:    gr.LongLived,
		},
	}
	if p.LocalAddress.IsValid() {
		peer.Transport.LocalAddress = p.LocalAddress.String()
	}
	for _, f := range p.Families {
		family := unicast(f.IPv6)
		peer.AfiSafis = append(peer.AfiSafis, &api.AfiSafi{
			Config:            &api.AfiSafiConfig{Family: family, Enabled: true},
			AddPaths:          &api.AddPaths{Config: &api.AddPathsConfig{Receive: f.AddPathsReceive, SendMax: uint32(f.AddPathsSendMax)}},
			MpGracefulRestart: &api.MpGracefulRestart{Config: &api.MpGracefulRestartConfig{Enabled: gr.Enabled && f.GracefulRestart}},
			LongLivedGracefulRestart: &api.LongLivedGracefulRestart{Config: &api.LongLivedGracefulRestartConfig{
				Enabled: gr.LongLived, RestartTime: seconds32(gr.StaleRoutesTime)}},
			PrefixLimits: &api.PrefixLimit{Family: family, MaxPrefixes: maxPrefixes},
		})
	}
	return peer
}

// timersOf are the timers of a session in seconds.
func timersOf(p Peer) *api.Timers {
	return &api.Timers{Config: &api.TimersConfig{
		ConnectRetry:                 uint64(seconds32(p.ConnectRetry)),
		HoldTime:                     uint64(seconds32(p.HoldTime)),
		KeepaliveInterval:            uint64(seconds32(p.KeepaliveInterval)),
		MinimumAdvertisementInterval: uint64(seconds32(p.MinimumAdvertisementInterval)),
		IdleHoldTimeAfterReset:       uint64(seconds32(idleHoldTime)),
	}}
}

// removePrivate is GoBGP's name in its API for an action on private AS numbers.
func removePrivate(action string) string {
	if action == "ALL" {
		return "REMOVE_ALL"
	}
	return action
}

func seconds32(d time.Duration) uint32 { return uint32(d / time.Second) }
