package iptables

import (
	"crypto/sha256"
	"encoding/base32"
	"fmt"
	"math"
	"net/netip"
	"strings"
	"time"

	"github.com/fairway-lb/fairway/dataplane"
	"github.com/fairway-lb/fairway/dataplane/service"
)

// Rules are written as iptables-save prints them, so that what is in the kernel
// can be compared with what is to be there. They have no chain yet, and each
// ends its line.

// source and destination match a prefix; all addresses need no match.
func source(p netip.Prefix) string      { return address("-s ", p) }
func destination(p netip.Prefix) string { return address("-d ", p) }

func address(option string, p netip.Prefix) string {
	if p.Bits() == 0 {
		return ""
	}
	return option + p.Masked().String() + " "
}

func single(a netip.Addr) netip.Prefix { return netip.PrefixFrom(a, a.BitLen()) }

// ports matches destination ports, as in 80 or 30208:30223.
func ports(p service.Protocol, ports string) string {
	name := protocolName(p)
	return "-p " + name + " -m " + name + " --dport " + ports + " "
}

func protocolName(p service.Protocol) string { return strings.ToLower(p.String()) }

func comment(text string) string { return fmt.Sprintf("-m comment --comment %q ", text) }

func jump(chain string) string { return "-j " + chain + "\n" }

// proceed has the rest of the rules of this chain, and of those that jumped to
// it, never seen.
func proceed(chain string) string { return "-g " + chain + "\n" }

const (
	accept     = "-j ACCEPT\n"
	drop       = "-j DROP\n"
	goBack     = "-j RETURN\n"
	toNode     = "-m addrtype --dst-type LOCAL "
	fromNode   = "-m addrtype --src-type LOCAL "
	translated = "-m conntrack --ctstate DNAT "
	newPackets = "-m conntrack --ctstate NEW "
	masquerade = "-j MASQUERADE --random-fully\n"
)

// chance matches one time in n, which is in the kernel a fraction of 2^31.
func chance(n int) string {
	const whole = 1 << 31
	return fmt.Sprintf("-m statistic --mode random --probability %.11f ", math.Round(whole/float64(n))/whole)
}

// recent matches clients that a list knows, or puts them there.
func recent(family service.Family, what, list string) string {
	mask := "255.255.255.255"
	if family == service.IPv6 {
		mask = "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"
	}
	return "-m recent " + what + " --name " + list + " --mask " + mask + " --rsource "
}

func dnat(to netip.AddrPort) string { return "-j DNAT --to-destination " + to.String() + "\n" }

// choose translates the destination to one of the endpoints, each as likely.
// Clients that stay are with the endpoint whose list has them, and prolong
// their stay by coming.
func choose(name service.PortName, p *service.Port, endpoints []netip.AddrPort) string {
	var b strings.Builder
	protocol := "-p " + protocolName(name.Protocol) + " "
	first := comment(name.NamespacedName.String() + ":" + name.Port)
	rule := func(matches string, to netip.AddrPort) {
		b.WriteString(protocol + first + matches + dnat(to))
		first = ""
	}
	if p.Affinity > 0 {
		for _, e := range endpoints {
			update := fmt.Sprintf("--update --seconds %d --reap", p.Affinity/time.Second)
			rule(recent(name.Family, update, listName(name, e)), e)
		}
	}
	for i, e := range endpoints {
		matches := ""
		if left := len(endpoints) - i; left > 1 {
			matches = chance(left)
		}
		if p.Affinity > 0 {
			matches += recent(name.Family, "--set", listName(name, e))
		}
		rule(matches, e)
	}
	return b.String()
}

// listName is that of the clients of an endpoint. It is the same after a
// restart, so that clients stay.
func listName(name service.PortName, e netip.AddrPort) string {
	return prefix + digest(name.String()+" "+e.String())
}

// digest is 16 characters for anything: names of chains have 28 at most.
func digest(of string) string {
	sum := sha256.Sum256([]byte(of))
	return base32.StdEncoding.EncodeToString(sum[:10])
}

// fromPods are matches of which one holds for packets of local pods.
func fromPods(d dataplane.Detector) []string {
	switch {
	case d.Bridge != "":
		return []string{"-i " + d.Bridge + " "}
	case d.InterfacePrefix != "":
		return []string{"-i " + d.InterfacePrefix + "+ "}
	}
	var all []string
	for _, p := range d.CIDRs {
		all = append(all, source(p))
	}
	return all
}
