package bgp

import (
	"cmp"
	"strconv"
	"time"

	"github.com/fairway-lb/fairway/api/v1alpha2"
)

// Timers where a BgpPeer and BgpConf say nothing.
const (
	// DefaultConnectRetry brings a session back soon after a router did; RFC
	// 4271's 120 s are longer than a router's reboot takes.
	DefaultConnectRetry = 5 * time.Second
	// DefaultHoldTime and a third of it between keepalives are those of RFC
	// 4271, 10.
	DefaultHoldTime = 90 * time.Second
	// DefaultRestartTime keeps the routes while the speaker is rolled, image
	// pull included.
	DefaultRestartTime = 120 * time.Second
	// DefaultDeferralTime is short because no routes are awaited from the
	// neighbors: none are accepted.
	DefaultDeferralTime = time.Second
	// DefaultStaleRoutesTime is a day, which is enough to mend a control
	// plane in.
	DefaultStaleRoutesTime = 24 * time.Hour
)

// Ends of the fields that carry times, all of them in seconds.
const (
	maxTimer       = 65535     // 16 bits (RFC 4271, 4.2)
	maxRestartTime = 1<<12 - 1 // 12 bits (RFC 4724, 3)
	maxStaleTime   = 1<<24 - 1 // 24 bits (RFC 9494, 3.1)
	minHoldTime    = 3         // RFC 4271, 4.2
)

// timers are those of the session itself.
func (d *draft) timers() *problem {
	config := &v1alpha2.TimersConfig{}
	if t := d.obj.Spec.Timers; t != nil && t.Config != nil {
		config = t.Config
	}
	p := &d.peer
	for _, timer := range []struct {
		field string
		text  v1alpha2.Seconds
		value *time.Duration
	}{
		{"connectRetry", config.ConnectRetry, &p.ConnectRetry},
		{"holdTime", config.HoldTime, &p.HoldTime},
		{"keepaliveInterval", config.KeepaliveInterval, &p.KeepaliveInterval},
		{"minimumAdvertisementInterval", config.MinimumAdvertisementInterval, &p.MinimumAdvertisementInterval},
	} {
		if timer.text == "" {
			continue
		}
		n, err := strconv.ParseUint(string(timer.text), 10, 16)
		if err != nil {
			return problemf(ReasonTimerInvalid, "spec.timers.config.%s %q: write a whole number of seconds from 0 to %d, without a unit", timer.field, timer.text, maxTimer)
		}
		*timer.value = time.Duration(n) * time.Second
	}
	p.ConnectRetry = cmp.Or(p.ConnectRetry, DefaultConnectRetry)
	p.HoldTime = cmp.Or(p.HoldTime, DefaultHoldTime)
	if p.HoldTime < minHoldTime*time.Second {
		return problemf(ReasonTimerInvalid, "spec.timers.config.holdTime %q is refused by every neighbor: set at least %d seconds", config.HoldTime, minHoldTime)
	}
	p.KeepaliveInterval = cmp.Or(p.KeepaliveInterval, (p.HoldTime / 3).Truncate(time.Second))
	if p.KeepaliveInterval >= p.HoldTime {
		return problemf(ReasonTimerInvalid, "spec.timers.config.keepaliveInterval of %s would end the session at each holdTime of %s: set a third of it", p.KeepaliveInterval, p.HoldTime)
	}
	if p.MinimumAdvertisementInterval > 0 {
		d.about.remarkf("spec.timers.config.minimumAdvertisementInterval has no effect, changes are announced at once")
	}
	return nil
}

// gracefulRestart is the BgpPeer's where it says anything, else the BgpConf's.
func (d *draft) gracefulRestart() *problem {
	object, asked := "", d.obj.Spec.GracefulRestart
	if asked == nil {
		object, asked = "BgpConf's ", d.conf.Spec.GracefulRestart
	}
	if asked == nil {
		asked = &v1alpha2.GracefulRestart{Enabled: true}
	}
	if !asked.Enabled {
		return nil
	}
	seconds := func(field string, value v1alpha2.Uint32, fallback time.Duration, largest v1alpha2.Uint32) time.Duration {
		if value > largest {
			d.about.remarkf("%sspec.gracefulRestart.%s %d counts as %d, the most that BGP can say", object, field, value, largest)
			value = largest
		}
		return cmp.Or(time.Duration(value)*time.Second, fallback)
	}
	d.peer.GracefulRestart = GracefulRestart{
		Enabled:      true,
		HelperOnly:   asked.HelperOnly,
		RestartTime:  seconds("restartTime", asked.RestartTime, DefaultRestartTime, maxRestartTime),
		DeferralTime: seconds("deferralTime", asked.DeferralTime, DefaultDeferralTime, maxTimer),
		Notification: asked.NotificationEnabled,
		LongLived:    asked.LonglivedEnabled,
	}
	if asked.LonglivedEnabled {
		d.peer.GracefulRestart.StaleRoutesTime = seconds("staleRoutesTime", asked.StaleRoutesTime, DefaultStaleRoutesTime, maxStaleTime)
	}
	return nil
}
