package bgp

import (
	"cmp"
	"time"

	"github.com/fairway-lb/fairway/speaker/bfd"
)

// A BFD session where a BgpPeer asks for one and says no more: a path counts
// as lost after 900 ms. Less would take a busy node for a lost one.
const (
	defaultBFDInterval   = 300 // ms
	defaultBFDMultiplier = 3
)

// Bounds of BFD's intervals in milliseconds. Below the first a node's scheduler
// decides about the session instead of the path; above the last BFD is slower
// than BGP's own hold timer.
const (
	minBFDInterval = 10
	maxBFDInterval = 60000
)

// bfd is the BFD session beside the BGP session.
func (d *draft) bfd() *problem {
	asked := d.obj.Spec.BFD
	if asked == nil {
		return nil
	}
	tx, rx := cmp.Or(asked.MinTx, defaultBFDInterval), cmp.Or(asked.MinRx, defaultBFDInterval)
	for _, interval := range []struct {
		field string
		ms    int32
	}{{"minTx", tx}, {"minRx", rx}} {
		if interval.ms < minBFDInterval || interval.ms > maxBFDInterval {
			return problemf(ReasonBFDInvalid, "spec.bfd.%s %d: set %d to %d milliseconds", interval.field, interval.ms, minBFDInterval, maxBFDInterval)
		}
	}
	multiplier := cmp.Or(asked.DetectMultiplier, defaultBFDMultiplier)
	if multiplier < 1 || multiplier > 255 {
		return problemf(ReasonBFDInvalid, "spec.bfd.detectMultiplier %d: set 1 to 255 packets", multiplier)
	}
	if asked.MinimumTTL < 0 || asked.MinimumTTL > 255 {
		return problemf(ReasonBFDInvalid, "spec.bfd.minimumTTL %d is no IP TTL: set 1 to 255, or leave it out", asked.MinimumTTL)
	}
	profile := &bfd.Profile{
		MinTx:      time.Duration(tx) * time.Millisecond,
		MinRx:      time.Duration(rx) * time.Millisecond,
		DetectMult: uint8(multiplier),
		Multihop:   asked.Multihop,
	}
	if asked.Multihop {
		profile.MinTTL = uint8(asked.MinimumTTL)
	} else if asked.MinimumTTL != 0 {
		d.about.remarkf("spec.bfd.minimumTTL has no effect without multihop, over one hop it is always 255")
	}
	d.peer.BFD = profile
	return nil
}
