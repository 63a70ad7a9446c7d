package bfd

import "time"

const (
	// slowTx is the least time between packets while a session is not Up (RFC
	// 5880, 6.8.3), so that neighbors that are not there cost little.
	slowTx = time.Second
	// remakeTime is how long a neighbor that begins a session anew has to bring it
	// Up again before the path counts as lost: the handshake is three packets, each
	// up to slowTx after the one before, and one or two may be lost.
	remakeTime = 5 * time.Second
)

// machine is one end of a session: the state variables of RFC 5880, 6.8.1, and
// what follows from packets, from time and from the operator. It does no I/O;
// the time is an argument. That of advance may be earlier than that of the packets
// before it, by a round of the engine at most.
type machine struct {
	profile Profile
	// random returns numbers in [0,1), for the jitter.
	random func() float64

	state, remoteState  State
	localDiscriminator  uint32
	remoteDiscriminator uint32
	diag, remoteDiag    Diagnostic
	remoteDesiredMinTx  time.Duration
	remoteMinRx         time.Duration
	remoteDetectMult    uint8
	remoteDemand        bool

	// desiredMinTx and requiredMinRx are what is told to the neighbor. activeTx and
	// activeRx are what counts: they differ while the neighbor does not know yet
	// and its reckoning must hold (6.8.3).
	desiredMinTx, requiredMinRx time.Duration
	activeTx, activeRx          time.Duration

	// polling is set during a Poll Sequence (6.5), pollAgain if something changed
	// after it had begun.
	polling, pollAgain bool

	since     time.Time // of the state
	lastTx    time.Time // of the last packet but those with the Final bit
	lastRx    time.Time // zero if the neighbor was not heard for a detection time
	jitter    float64   // part of the interval after which the next packet is due
	lostAfter time.Time // zero, or when the path counts as lost unless the session is Up
	downs     uint64
}

// effects are what a step of the machine has the driver do.
type effects struct {
	send    bool  // the present packet
	final   bool  // the present packet with the Final bit, after that
	changed bool  // the state has changed
	from    State // what it was, if changed
	lost    bool  // see Event.Lost
}

// newMachine returns a session in the state Down that has not sent anything.
func newMachine(p Profile, discriminator uint32, random func() float64, now time.Time) *machine {
	m := &machine{
		profile:            p,
		random:             random,
		state:              Down,
		localDiscriminator: discriminator,
		requiredMinRx:      p.MinRx,
		activeRx:           p.MinRx,
		since:              now,
	}
	m.desiredMinTx = m.wantedTx()
	m.activeTx = m.desiredMinTx
	m.forgetNeighbor()
	return m
}

// receive is RFC 5880, 6.8.6, from the point where the session is known.
func (m *machine) receive(p packet, now time.Time) (effects, discard) {
	if m.state == AdminDown {
		return effects{}, administrativelyDown
	}
	formerDetection, sameSession := m.detectionTime(), p.myDiscriminator == m.remoteDiscriminator
	m.remoteDiscriminator = p.myDiscriminator
	m.remoteState, m.remoteDiag = p.state, p.diag
	m.remoteDemand = p.demand
	m.remoteMinRx, m.remoteDesiredMinTx = p.requiredMinRx, p.desiredMinTx
	m.remoteDetectMult = p.detectMult
	m.lastRx = now
	if p.final && m.polling {
		m.endPoll()
	}

	var out effects
	switch {
	case p.state == AdminDown:
		m.lostAfter = time.Time{} // whatever it was, it is wanted
		if m.state != Down {
			m.enter(Down, NeighborSignaledSessionDown, now, &out)
		}
	case m.state == Down && p.state == Down:
		m.enter(Init, m.diag, now, &out)
	case m.state == Down && p.state == Init, m.state == Init && (p.state == Init || p.state == Up):
		m.enter(Up, NoDiagnostic, now, &out)
	case m.state == Up && p.state == Down:
		m.enter(Down, NeighborSignaledSessionDown, now, &out)
		if sameSession && p.diag.pathFailed() {
			out.lost = true
		} else {
			m.lostAfter = now.Add(max(formerDetection, remakeTime))
		}
	}
	out.final = p.poll
	return out, accepted
}

// advance does what is due. The caller has handed every packet that arrived before
// now to receive, so that silence is the neighbor's.
func (m *machine) advance(now time.Time) effects {
	var out effects
	if due := m.detectionDue(); !due.IsZero() && !now.Before(due) {
		m.forgetNeighbor()
		switch m.state {
		case Up:
			m.enter(Down, ControlDetectionTimeExpired, now, &out)
			out.lost = true
		case Init:
			m.enter(Down, ControlDetectionTimeExpired, now, &out)
		}
	}
	if !m.lostAfter.IsZero() && !now.Before(m.lostAfter) {
		m.lostAfter = time.Time{}
		out.lost = true
	}
	if due, ok := m.transmissionDue(); ok && !now.Before(due) {
		m.transmit(now, &out)
	}
	return out
}

// next returns when advance has something to do, if nothing else happens; false if never.
func (m *machine) next() (time.Time, bool) {
	next, ok := m.transmissionDue()
	for _, t := range []time.Time{m.detectionDue(), m.lostAfter} {
		if !t.IsZero() && (!ok || t.Before(next)) {
			next, ok = t, true
		}
	}
	return next, ok
}

// configure takes another profile over, without a change of state (6.8.3).
func (m *machine) configure(p Profile, now time.Time) effects {
	multChanged := p.DetectMult != m.profile.DetectMult
	m.profile = p
	if m.state == AdminDown {
		return effects{}
	}
	changed := m.desiredMinTx != m.wantedTx() || m.requiredMinRx != p.MinRx
	m.desiredMinTx, m.requiredMinRx = m.wantedTx(), p.MinRx
	if m.state != Up {
		m.activeTx, m.activeRx = m.desiredMinTx, m.requiredMinRx
	} else if changed {
		m.beginPoll()
	}
	var out effects
	if changed || multChanged {
		m.transmitChange(now, &out)
	}
	return out
}

// shutDown takes the session down administratively (6.8.16), for good.
func (m *machine) shutDown(now time.Time) effects {
	var out effects
	m.lostAfter = time.Time{}
	m.enter(AdminDown, AdministrativelyDown, now, &out)
	return out
}

// forgetNeighbor is for one that was not heard for a detection time, or never: it
// may have begun anew, with another discriminator and other intervals (6.8.1).
func (m *machine) forgetNeighbor() {
	m.remoteState, m.remoteDiscriminator, m.remoteDemand = Down, 0, false
	m.remoteMinRx = time.Microsecond // the initial value of 6.8.1
	m.lastRx = time.Time{}
}

// enter changes the state and tells the neighbor at once (6.8.7).
func (m *machine) enter(s State, d Diagnostic, now time.Time, out *effects) {
	if m.state == Up {
		m.downs++
	}
	out.changed, out.from = true, m.state
	m.state, m.diag, m.since = s, d, now
	m.desiredMinTx = m.wantedTx()
	if s == Up {
		m.lostAfter = time.Time{}
		m.beginPoll()
	} else {
		// No Poll Sequence: the packets of the handshake tell the intervals.
		m.polling, m.pollAgain = false, false
		m.activeTx, m.activeRx = m.desiredMinTx, m.requiredMinRx
	}
	m.transmitChange(now, out)
}

func (m *machine) wantedTx() time.Duration {
	if m.state == Up {
		return m.profile.MinTx
	}
	return max(m.profile.MinTx, slowTx)
}

// beginPoll makes the changed intervals known. Until the neighbor has confirmed
// them, no packet is later and no patience shorter than it knows.
func (m *machine) beginPoll() {
	m.pollAgain = m.polling
	m.polling = true
	m.activeTx = min(m.activeTx, m.desiredMinTx)
	m.activeRx = max(m.activeRx, m.requiredMinRx)
}

func (m *machine) endPoll() {
	if m.pollAgain {
		// This may be the answer to a packet from before the second change.
		m.pollAgain = false
		return
	}
	m.polling = false
	m.activeTx, m.activeRx = m.desiredMinTx, m.requiredMinRx
}

// detectionTime is how long the neighbor may be silent (6.8.4), 0 if it was not heard.
func (m *machine) detectionTime() time.Duration {
	if m.lastRx.IsZero() {
		return 0
	}
	return time.Duration(m.remoteDetectMult) * max(m.activeRx, m.remoteDesiredMinTx)
}

func (m *machine) detectionDue() time.Time {
	if m.lastRx.IsZero() {
		return time.Time{}
	}
	return m.lastRx.Add(m.detectionTime())
}

// transmitInterval is that of periodic packets before jitter (6.8.7); 0 means that
// there are none.
func (m *machine) transmitInterval() time.Duration {
	asleep := m.remoteDemand && m.state == Up && m.remoteState == Up && !m.polling
	if m.state == AdminDown || m.remoteMinRx == 0 || asleep {
		return 0
	}
	return max(m.activeTx, m.remoteMinRx)
}

func (m *machine) transmissionDue() (time.Time, bool) {
	interval := m.transmitInterval()
	return m.lastTx.Add(time.Duration(float64(interval) * m.jitter)), interval > 0
}

// transmitChange sends ahead of time what has changed, unless the neighbor wants
// nothing. AdminDown is said to everyone: it is what ends the session.
func (m *machine) transmitChange(now time.Time, out *effects) {
	if m.transmitInterval() > 0 || m.state == AdminDown {
		m.transmit(now, out)
	}
}

func (m *machine) transmit(now time.Time, out *effects) {
	m.lastTx = now
	// 75 to 100 % of the interval, or 90 % where one lost packet is too many (6.8.7).
	spread := 0.25
	if m.profile.DetectMult == 1 {
		spread = 0.15
	}
	m.jitter = 0.75 + spread*m.random()
	out.send = true
}

// packet is the present one (6.8.7). The C bit is 0: these sessions are part of
// the speaker's process and end with it, so that a neighbor that loses one cannot
// conclude that the node forwards no longer (RFC 5882, 4.3.2).
func (m *machine) packet(final bool) packet {
	return packet{
		diag:              m.diag,
		state:             m.state,
		poll:              m.polling && !final,
		final:             final,
		detectMult:        m.profile.DetectMult,
		myDiscriminator:   m.localDiscriminator,
		yourDiscriminator: m.remoteDiscriminator,
		desiredMinTx:      m.desiredMinTx,
		requiredMinRx:     m.requiredMinRx,
	}
}
