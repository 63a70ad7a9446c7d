//go:build !race

package bfd

import (
	"math/rand/v2"
	"testing"
	"time"
)

// An allocation can make the thread wait for a garbage collection. (The race
// detector allocates by itself.)
func TestPacketsAllocateNothing(t *testing.T) {
	h := newHost(t)
	must(t, h.nl.LinkSetUp(h.link("lo")))
	key := Key{Neighbor: addr("127.0.0.1"), Local: addr("127.0.0.1")}
	m, err := newMetrics(nil)
	must(t, err)
	e := &engine{metrics: m, changes: newNotifier(nil), sessions: map[uint32]*session{}, reader: newReader()}
	var socket, listener int
	h.do(func() (err error) {
		if listener, err = listen(kind{}); err != nil {
			return err
		}
		socket, err = dial(key, 0)
		return err
	})
	e.wake = listener // something to poll
	e.listeners = map[kind]int{{}: listener}
	t.Cleanup(func() { must(t, closeAll([]int{socket, listener})) })
	// The session hears itself.
	s := &session{key: key, socket: socket, to: sockaddr(key.Neighbor, singleHopPort, 0, kind{}),
		machine: newMachine(Profile{MinTx: time.Millisecond, MinRx: time.Second, DetectMult: 255}, 1, rand.Float64, time.Now())}
	e.add(s)
	s.machine.state, s.machine.remoteDiscriminator = Up, 1
	s.machine.activeTx = time.Millisecond
	answer := packet{state: Up, detectMult: 255, myDiscriminator: 1, yourDiscriminator: 1, requiredMinRx: time.Millisecond, poll: true}
	allocs := testing.AllocsPerRun(1000, func() {
		e.send(s, answer)
		e.wait()
		e.receive()
		s.machine.lastTx = time.Time{} // the next packet is due
		e.apply(s, s.machine.advance(time.Now()))
	})
	if allocs != 0 || s.machine.state != Up || s.received < 2000 {
		t.Errorf("%v allocations for three packets; received %d", allocs, s.received)
	}
}
