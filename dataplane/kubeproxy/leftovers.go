package kubeproxy

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"

	"github.com/fairway-lb/fairway/dataplane/service"
)

// Leftover is what kube-proxy has put into one place of the kernel.
type Leftover struct {
	// Mode is that of the kube-proxy: iptables, ipvs or nftables. Chains of
	// iptables are from IPVS mode, too, where there is also a link or a set.
	Mode string
	// Place is where it is, as "tables of nftables", or as "chains in table nat
	// of iptables-legacy (IPv6)".
	Place string
	// Names are those of what Remove removes, sorted.
	Names []string
	// Kept is what Remove leaves, because someone else uses it.
	Kept []Kept
}

// Kept is something of kube-proxy that stays.
type Kept struct {
	Name, Reason string
}

// String returns the place and the first names, for a log.
func (l Leftover) String() string {
	const shown = 8 // a node may have thousands of chains
	var b strings.Builder
	fmt.Fprintf(&b, "%d %s", len(l.Names), l.Place)
	for i, name := range l.Names[:min(len(l.Names), shown)] {
		fmt.Fprintf(&b, "%s%s", map[bool]string{true: ": ", false: ", "}[i == 0], name)
	}
	if len(l.Names) > shown {
		b.WriteString(", …")
	}
	for _, k := range l.Kept {
		fmt.Fprintf(&b, "; %s stays: %s", k.Name, k.Reason)
	}
	return b.String()
}

// The modes of kube-proxy.
const (
	modeIPTables = "iptables"
	modeIPVS     = "ipvs"
	modeNFTables = "nftables"
)

// Config is what Remove cannot do itself.
type Config struct {
	// RemoveVirtualServices removes those virtual services of IPVS for which its
	// argument is true, and which are not the caller's own: a virtual service
	// is known by protocol, address and port, so that of kube-proxy and one of
	// the caller may be the same. It is called only where kube-proxy was in
	// IPVS mode. Without it, Remove leaves all of IPVS mode but the rules of
	// iptables, and says so.
	RemoveVirtualServices func(kubeProxys func(service.Protocol, netip.AddrPort) bool) error
}

// Leftovers returns what kube-proxy has left in the kernel. With an error, it
// returns what it could find out all the same.
func Leftovers(ctx context.Context) ([]Leftover, error) {
	var found []Leftover
	var errs []error
	for _, p := range parts(Config{}) {
		f, err := p.find(ctx)
		found = append(found, f...)
		errs = append(errs, err)
	}
	return found, errors.Join(errs...)
}

// Remove removes what kube-proxy has left in the kernel: see the package for
// what has to be there before. It is for a node on which no kube-proxy runs,
// which would put all back.
//
// It does one part after the other, each by as few transactions as there can
// be, and of each first that which leads there: so there is no moment at which
// a packet meets half of a part. What fails does not keep it from the rest, and
// the error is of all that failed. It can be called again: where nothing is
// left it does nothing.
func Remove(ctx context.Context, config Config) error {
	var errs []error
	for _, p := range parts(config) {
		errs = append(errs, p.remove(ctx))
	}
	return errors.Join(errs...)
}

// part is one thing that kube-proxy puts into a kernel.
type part interface {
	find(context.Context) ([]Leftover, error)
	remove(context.Context) error
}

// parts returns all in the order of their removal. An ipset is in use while
// there is a rule of iptables that asks for it, and tells of virtual services.
func parts(config Config) []part {
	return []part{
		nftTables{},
		nftChains{service.IPv4}, nftChains{service.IPv6},
		legacyChains{service.IPv4}, legacyChains{service.IPv6},
		ipvs{config},
	}
}
