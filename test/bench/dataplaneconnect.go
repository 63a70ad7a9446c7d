package main

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"runtime"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"github.com/fairway-lb/fairway/test/lab"
)

const (
	// connectBatch is how many sockets for each target are open at once.
	connectBatch = 50
	// connectWarmUp is how many connections to each target do not count: they
	// find the neighbors.
	connectWarmUp = 10
	// connectTimeout is when a connection has failed.
	connectTimeout = 5 * time.Second
)

// target is what is connected to.
type target struct {
	what string
	from *lab.Namespace
	to   netip.AddrPort
}

// connect connects to all targets again and again, so that what else the machine
// does meets all of them, and returns for each how long that took, sorted. The
// order is another one each time: the first in a namespace finds less of it in
// the processor's caches. A connection is three packets, of which two are waited
// for.
func connect(n int, targets ...target) ([][]time.Duration, error) {
	took := make([][]time.Duration, len(targets))
	for done := -connectWarmUp; done < n; {
		batch := min(connectBatch, n-done)
		sockets, err := openSockets(targets, batch)
		for i := 0; i < batch && err == nil; i++ {
			for _, t := range rand.Perm(len(targets)) {
				var one time.Duration
				one, err = timeConnect(sockets[t][i], targets[t].to)
				if errors.Is(err, unix.EINTR) { // a signal of the runtime; nobody knows how long it took
					err = nil
					continue
				}
				if err != nil {
					err = fmt.Errorf("%s: %w", targets[t].what, err)
					break
				}
				if done+i >= 0 {
					took[t] = append(took[t], one)
				}
			}
		}
		if err = errors.Join(err, closeSockets(sockets)); err != nil {
			return nil, err
		}
		done += batch
	}
	for _, all := range took {
		slices.Sort(all)
	}
	return took, nil
}

// openSockets opens n sockets for each target; they stay in its namespace.
func openSockets(targets []target, n int) (sockets [][]int, err error) {
	sockets = make([][]int, len(targets))
	for t, target := range targets {
		err := target.from.Do(func() error {
			for range n {
				fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
				if err != nil {
					return fmt.Errorf("opening a socket: %w", err)
				}
				sockets[t] = append(sockets[t], fd)
				// Closed without a farewell, it leaves no port in use.
				err = unix.SetsockoptLinger(fd, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1})
				if err == nil {
					timeout := unix.NsecToTimeval(connectTimeout.Nanoseconds())
					err = unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_SNDTIMEO, &timeout)
				}
				if err != nil {
					return fmt.Errorf("preparing a socket: %w", err)
				}
			}
			return nil
		})
		if err != nil {
			return sockets, err
		}
	}
	return sockets, nil
}

func closeSockets(sockets [][]int) error {
	var errs []error
	for _, fd := range slices.Concat(sockets...) {
		errs = append(errs, unix.Close(fd))
	}
	return errors.Join(errs...)
}

// timeConnect uses a system call that blocks: the goroutines of a net.Conn take
// longer than the kernel.
func timeConnect(fd int, to netip.AddrPort) (time.Duration, error) {
	address := unix.SockaddrInet4{Addr: to.Addr().As4(), Port: int(to.Port())}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	begin := time.Now()
	err := unix.Connect(fd, &address)
	took := time.Since(begin)
	if err != nil {
		return 0, fmt.Errorf("connecting to %v: %w", to, err)
	}
	return took, nil
}

// firstPackets times connections by way of a candidate. One that is direct is no
// measure for those of iptables: it passes the rules of all Services in vain.
func (d *dataplaneBench) firstPackets(c *candidate, t *table) error {
	client := d.clients[c.node].Namespace
	last := d.services - 1
	targets := []target{
		{"direct", client, netip.AddrPortFrom(endpointAddress(last, 0), servicePort)},
		{"the first Service", client, netip.AddrPortFrom(clusterIP(0), servicePort)},
		{"the last Service", client, netip.AddrPortFrom(clusterIP(last), servicePort)},
	}
	took, err := connect(d.connects, targets...)
	if err != nil {
		return err
	}
	for i, target := range targets {
		t.row(c.name+", "+target.what, append(distribution(took[i]), factor(ratio(percentile(took[i], 50), percentile(took[0], 50))))...)
	}
	return nil
}
