package nftables

import (
	"testing"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"

	"github.com/fairway-lb/fairway/dataplane/dataplanetest"
	"github.com/fairway-lb/fairway/dataplane/service"
)

// told counts what the kernel tells of until the end of a transaction.
func told(b *testing.B, conn *netlink.Conn) (n int) {
	for {
		messages, err := conn.Receive()
		must(b, err)
		for _, m := range messages {
			switch m.Header.Type & 0xff {
			case unix.NFT_MSG_NEWSETELEM, unix.NFT_MSG_DELSETELEM:
				n++
			case unix.NFT_MSG_NEWGEN:
				return n
			}
		}
	}
}

func benchmarkState(b *testing.B, count int) (*dataplanetest.Lab, *service.State) {
	l := dataplanetest.NewLab(b)
	s := service.NewState(dataplanetest.ThisNode)
	dataplanetest.Load(s, l, count)
	return l, s
}

// One endpoint of one of ten thousand Services becomes another.
func BenchmarkSwap10000(b *testing.B) {
	const count = 10_000
	l, s := benchmarkState(b, count)
	backend := start(b, dataplanetest.WithPods)
	dataplanetest.Sync(b, backend, s)
	conn, err := netlink.Dial(unix.NETLINK_NETFILTER, &netlink.Config{})
	must(b, err)
	defer conn.Close()
	must(b, conn.JoinGroup(unix.NFNLGRP_NFTABLES))
	f := dataplanetest.Frontends{Number: count / 2}
	ends := []dataplanetest.Endpoint{dataplanetest.OnPod1(l), dataplanetest.OnPod2(l)}
	elements := 0
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		dataplanetest.SetEndpoints(s, f, ends[(i+1)%2], dataplanetest.OnRemote(l))
		before := backend.generation
		dataplanetest.Sync(b, backend, s)
		for range backend.generation - before {
			elements += told(b, conn)
		}
	}
	b.ReportMetric(float64(elements)/float64(b.N), "elements/op")
}

func BenchmarkColdStart10000(b *testing.B) {
	_, s := benchmarkState(b, 10_000)
	changes := s.Changes().Ports
	b.ReportAllocs()
	for b.Loop() {
		backend, err := New(dataplanetest.WithPods)
		must(b, err)
		must(b, backend.Apply(changes))
		must(b, backend.Close())
		b.StopTimer()
		must(b, Cleanup())
		b.StartTimer()
	}
	elements := 0
	for _, c := range changes {
		m := newMirror(c.Name.Family, &dataplanetest.WithPods)
		elements += len(m.apply([]service.PortChange{c}).added)
	}
	b.ReportMetric(float64(elements), "elements/op")
}
