package dataplanetest

import (
	"errors"
	"fmt"
	"net/netip"
	"syscall"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
)

// A kernel does some of what it is asked for a moment after it has said that it
// is done: it sends by a link that was set up before its other end, and takes
// packets to an IPv6 address. Until then it loses packets without a word, so the
// lab waits for what the kernel tells of it.

// awaitUp waits until a namespace sends by a link of its own.
func awaitUp(ns netns.NsHandle, name string) error {
	updates, done := make(chan netlink.LinkUpdate), make(chan struct{})
	options := netlink.LinkSubscribeOptions{Namespace: &ns, ListExisting: true}
	if err := netlink.LinkSubscribeWithOptions(updates, done, options); err != nil {
		return fmt.Errorf("subscribe to links: %w", err)
	}
	defer leave(updates, done)
	err := await(updates, func(u netlink.LinkUpdate) bool {
		return u.Attrs().Name == name && u.Attrs().OperState == netlink.OperUp
	})
	if err != nil {
		return fmt.Errorf("wait until link %s is up: %w", name, err)
	}
	return nil
}

// addAddr gives a link of a namespace an address, and waits until packets to it
// are the namespace's own: an IPv6 address comes at once, its local route later
// (addrconf_dad_start has a worker do it, even without detection of duplicates).
// In between, those from elsewhere meet with "no route", or are forwarded.
func addAddr(ns netns.NsHandle, link netlink.Link, addr netip.Addr, scope int) error {
	updates, done := make(chan netlink.RouteUpdate), make(chan struct{})
	if err := netlink.RouteSubscribeWithOptions(updates, done, netlink.RouteSubscribeOptions{Namespace: &ns}); err != nil {
		return fmt.Errorf("subscribe to routes: %w", err)
	}
	defer leave(updates, done)
	err := onThread(ns, func() error {
		return netlink.AddrAdd(link, &netlink.Addr{IPNet: single(addr), Flags: syscall.IFA_F_NODAD, Scope: scope})
	})
	if err != nil {
		return fmt.Errorf("add address %v: %w", addr, err)
	}
	err = await(updates, func(u netlink.RouteUpdate) bool {
		return u.Type == syscall.RTM_NEWROUTE && u.Route.Type == syscall.RTN_LOCAL && u.Dst != nil && u.Dst.String() == single(addr).String()
	})
	if err != nil {
		return fmt.Errorf("wait for the local route of %v: %w", addr, err)
	}
	return nil
}

// await waits for an update that suits.
func await[Update any](updates <-chan Update, suits func(Update) bool) error {
	late := time.After(patienceWithBackend)
	for {
		select {
		case u, ok := <-updates:
			if !ok {
				return errors.New("the kernel has stopped telling")
			}
			if suits(u) {
				return nil
			}
		case <-late:
			return errors.New("nothing in a minute")
		}
	}
}

// leave ends a subscription, and whoever hands over its updates.
func leave[Update any](updates <-chan Update, done chan<- struct{}) {
	close(done)
	for range updates {
	}
}
