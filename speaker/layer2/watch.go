package layer2

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// resubscribeAfter is the pause between attempts to open a socket again, which
// fails only if the node is out of memory or files.
const resubscribeAfter = time.Second

// Watch signals when links, addresses or routes of the network namespace of
// this process may have changed. Changes between two receives are one signal,
// and a lost event is one as well. The channel is closed when ctx is done.
func Watch(ctx context.Context) (<-chan struct{}, error) {
	sock, err := subscribe()
	if err != nil {
		return nil, err
	}
	changed := make(chan struct{}, 1)
	go func() {
		defer close(changed)
		for sock != nil {
			forward(ctx, sock, changed)
			sock = resubscribe(ctx)
			signal(changed) // for what was missed meanwhile
		}
	}()
	return changed, nil
}

func subscribe() (*nl.NetlinkSocket, error) {
	sock, err := nl.Subscribe(unix.NETLINK_ROUTE, unix.RTNLGRP_LINK,
		unix.RTNLGRP_IPV4_IFADDR, unix.RTNLGRP_IPV6_IFADDR,
		unix.RTNLGRP_IPV4_ROUTE, unix.RTNLGRP_IPV6_ROUTE)
	if err != nil {
		return nil, fmt.Errorf("subscribe to changes of links, addresses and routes: %w", err)
	}
	return sock, nil
}

// forward turns events into signals until the socket fails or ctx is done, and
// closes the socket.
func forward(ctx context.Context, sock *nl.NetlinkSocket, changed chan<- struct{}) {
	stop := context.AfterFunc(ctx, sock.Close)
	defer func() {
		if stop() {
			sock.Close()
		}
	}()
	for {
		// The kernel reports ENOBUFS when it had to drop events.
		_, _, err := sock.Receive()
		if err != nil && !errors.Is(err, unix.ENOBUFS) && !errors.Is(err, unix.EINTR) {
			return
		}
		signal(changed)
	}
}

// resubscribe returns nil if ctx is done.
func resubscribe(ctx context.Context) *nl.NetlinkSocket {
	for ctx.Err() == nil {
		if sock, err := subscribe(); err == nil {
			return sock
		}
		select {
		case <-ctx.Done():
		case <-time.After(resubscribeAfter):
		}
	}
	return nil
}

func signal(changed chan<- struct{}) {
	select {
	case changed <- struct{}{}:
	default:
	}
}
