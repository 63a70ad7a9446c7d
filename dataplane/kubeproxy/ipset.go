package kubeproxy

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"strings"
	"syscall"
	"time"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"

	"github.com/fairway-lb/fairway/dataplane/service"
)

// Numbers of linux/netfilter/ipset/ip_set.h.
const (
	ipsetProtocol   = 6 // of Linux 2.6.39 and later, which all still speak
	ipsetDestroy    = 3
	ipsetList       = 7
	ipsetAttrProto  = 1 // of all messages: the version of the protocol
	ipsetAttrName   = 2
	ipsetAttrADT    = 8 // elements
	ipsetElemIP     = 1
	ipsetElemPort   = 4
	ipsetElemProto  = 7
	ipsetErrorBusy  = 4100 // IPSET_ERR_BUSY; the kernel prints it as an error of no name
	ipsetDumpFamily = unix.AF_UNSPEC
)

// A rule of iptables-nft that was removed goes on to use its set until the
// kernel has freed it, which it does in the background.
const (
	busyTimeout  = 10 * time.Second
	busyInterval = 20 * time.Millisecond
)

// errNoSet is that there is no such set, or that the kernel has no sets.
var errNoSet = errors.New("no such ipset")

// endpoint is where something is served.
type endpoint struct {
	service.Protocol
	netip.AddrPort
}

// listSet returns the elements of a set of kube-proxy, as far as they have a
// port: those of a set of ports have no address, nor a protocol.
func listSet(ctx context.Context, name string) (elements []endpoint, err error) {
	answers, err := askSets(ctx, ipsetList, netlink.Dump, name)
	if err != nil {
		return nil, err
	}
	for _, a := range answers {
		for _, element := range attributes(nested(payload(a), ipsetAttrADT)) {
			port := nested(attributes(element), ipsetElemPort)
			if len(port) != 2 {
				continue
			}
			// An address is nested once more, by its family.
			var addr netip.Addr
			for _, value := range attributes(nested(attributes(element), ipsetElemIP)) {
				addr, _ = netip.AddrFromSlice(value)
			}
			elements = append(elements, endpoint{
				service.Protocol(number(nested(attributes(element), ipsetElemProto))),
				netip.AddrPortFrom(addr, uint16(number(port))),
			})
		}
	}
	return elements, nil
}

// destroySet removes a set, as soon as no rule uses it any more.
func destroySet(ctx context.Context, name string) error {
	ctx, cancel := context.WithTimeout(ctx, busyTimeout)
	defer cancel()
	again := time.NewTicker(busyInterval)
	defer again.Stop()
	var busy error // so it was when it was last asked for
	for {
		_, err := askSets(ctx, ipsetDestroy, netlink.Acknowledge, name)
		switch {
		case err == nil || errors.Is(err, errNoSet):
			return nil
		case errors.Is(err, syscall.Errno(ipsetErrorBusy)):
			busy = fmt.Errorf("destroy ipset %s: a rule that is not kube-proxy's uses it: %w", name, err)
		case busy != nil && (ctx.Err() != nil || errors.Is(err, os.ErrDeadlineExceeded)): // the end of waiting
			return busy
		default:
			return fmt.Errorf("destroy ipset %s: %w", name, err)
		}
		select {
		case <-again.C:
		case <-ctx.Done():
			return busy
		}
	}
}

func askSets(ctx context.Context, kind uint16, flags netlink.HeaderFlags, name string) (_ []netlink.Message, err error) {
	conn, err := dial(ctx)
	if errors.Is(err, unix.EPROTONOSUPPORT) {
		return nil, errNoSet
	}
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, conn.Close()) }()
	var e encoder
	e.bytes(ipsetAttrProto, []byte{ipsetProtocol})
	e.string(ipsetAttrName, name)
	answers, err := conn.Execute(message(unix.NFNL_SUBSYS_IPSET, kind, flags, ipsetDumpFamily, e))
	if errors.Is(err, unix.ENOENT) || noSubsystem(err) {
		return nil, errNoSet
	}
	return answers, wrap(err, "ask the kernel for ipset %s", name)
}

// nodePortProtocol returns the protocol of the ports in a set of node ports,
// whose elements do not say it.
func nodePortProtocol(set string) (service.Protocol, bool) {
	switch {
	case !strings.Contains(set, "-NODE-PORT-") || strings.Contains(set, "-HEALTH-"):
	case strings.HasSuffix(set, "-TCP"):
		return service.TCP, true
	case strings.HasSuffix(set, "-UDP"):
		return service.UDP, true
	case strings.Contains(set, "-SCTP"): // which may be cut
		return service.SCTP, true
	}
	return 0, false
}
