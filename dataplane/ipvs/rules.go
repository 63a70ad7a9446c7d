package ipvs

import (
	"fmt"
	"math/bits"
	"strings"

	"github.com/fairway-lb/fairway/dataplane"
	"github.com/fairway-lb/fairway/dataplane/service"
)

// Marks of virtual services have a tag, so that no packet that someone else has
// marked is taken for one of theirs: IPVS looks at marks first, whatever the
// address. Network plugins use the bits above the lowest 16 from the lowest on.
const (
	markTag  = 0xfa100000
	tagMask  = 0xfff00000
	markBits = 0x0000ffff // that tell virtual services apart
)

// marking are the bits of packet marks and what they are for. The one that asks
// for masquerade is in none of the others.
type marking struct{ masquerade uint32 }

func (m marking) tag() uint32  { return markTag &^ m.masquerade }
func (m marking) mask() uint32 { return tagMask &^ m.masquerade }

// isOurs tells whether a mark is of a virtual service, also of one from when
// another bit asked for masquerade.
func isOurs(mark uint32) bool { return bits.OnesCount32((mark^markTag)&tagMask) <= 1 }

// nth returns the mark of a number, which is spread over the bits there are,
// and false if there are not enough.
func (m marking) nth(n int) (uint32, bool) {
	mark := m.tag()
	for left := uint32(markBits) &^ m.masquerade; left != 0; left &= left - 1 {
		if n&1 != 0 {
			mark |= left & -left
		}
		n >>= 1
	}
	return mark, n == 0
}

// The names of our chains begin with it, and those of the iptables backend with
// something else.
const chainPrefix = "IPVS-FAIRWAY-"

const (
	admitChain       = chainPrefix + "ADMIT"
	inputChain       = chainPrefix + "INPUT"
	podChain         = chainPrefix + "POD"
	outputChain      = chainPrefix + "OUTPUT"
	postroutingChain = chainPrefix + "POSTROUTING"
	refuseChain      = chainPrefix + "REFUSE"
	rejectChain      = chainPrefix + "REJECT"
)

// table is a table of iptables, as far as it is ours.
type table struct {
	name   string
	chains []string
	jumps  [][2]string // from a chain that is not ours
	rules  []string    // with the chain first
}

// tables returns all rules of a family. What they say of Services is in sets.
func tables(config *dataplane.Config, family service.Family) []table {
	mangle := table{name: "mangle", chains: []string{admitChain, inputChain, podChain, outputChain, postroutingChain},
		jumps: [][2]string{{"INPUT", inputChain}, {"OUTPUT", outputChain}, {"POSTROUTING", postroutingChain}}}
	nat := table{name: "nat", chains: []string{postroutingChain}, jumps: [][2]string{{"POSTROUTING", postroutingChain}}}
	filter := table{name: "filter", chains: []string{refuseChain, rejectChain},
		jumps: [][2]string{{"INPUT", refuseChain}, {"FORWARD", refuseChain}, {"OUTPUT", refuseChain}}}

	frontendIn := func(kind setKind) string { return match(kind, family, "dst,dst") }
	masquerade := config.MasqueradeMark
	marks := marking{masquerade}
	ours := fmt.Sprintf("-m mark --mark %#x/%#x", marks.tag(), marks.mask())
	mark := fmt.Sprintf("-j MARK --set-xmark %#x/%#x", masquerade, masquerade)
	toWithin := fmt.Sprintf("-j SET --map-set %s dst,dst --map-mark", setName(withinSet, family))
	const isNew, isNotNew = "-m conntrack --ctstate NEW", "-m conntrack ! --ctstate NEW"

	// What is new is judged, and marked, before IPVS sees it: in INPUT after
	// the filters, in OUTPUT before them.
	mangle.add(admitChain, frontendIn(restrictedSet), "-m set ! --match-set", setName(allowedSet, family), "dst,dst,src", "-j DROP")
	mangle.add(admitChain, frontendIn(dropSet), "-j DROP")

	mangle.add(inputChain, isNotNew, "-j RETURN")
	mangle.add(inputChain, "-j", admitChain)
	pods := fromPods(config, family)
	if pods != "" {
		mangle.add(inputChain, pods, "-g", podChain)
	}
	mangle.add(inputChain, frontendIn(externalDropSet), "-j DROP")
	mangle.add(inputChain, frontendIn(masqueradeSet), mark)
	if pods != "" || config.MasqueradeAll {
		// Others have come this way by a route, and the answer of a remote
		// endpoint would not come back by it.
		mangle.add(inputChain, frontendIn(clusterIPsSet), mark)
	}

	mangle.add(podChain, frontendIn(masqueradeSet), mark)
	if config.MasqueradeAll {
		mangle.add(podChain, frontendIn(clusterIPsSet), mark)
	}
	mangle.add(podChain, toWithin)

	mangle.add(outputChain, isNotNew, "-j RETURN")
	mangle.add(outputChain, "-j", admitChain)
	// A process of the node has the frontend's own address as source.
	mangle.add(outputChain, frontendIn(servicesSet), mark)
	mangle.add(outputChain, toWithin)

	// The mark has led to the virtual service, and goes.
	mangle.add(postroutingChain, ours, "-m addrtype --src-type LOCAL", fmt.Sprintf("-j MARK --set-xmark %#x/0xffffffff", masquerade))
	mangle.add(postroutingChain, ours, "-j MARK --set-xmark 0x0/0xffffffff")

	nat.add(postroutingChain, match(hairpinsSet, family, "dst,dst,src"), "-j MASQUERADE --random-fully")
	nat.add(postroutingChain, fmt.Sprintf("-m mark ! --mark %#x/%#x -j RETURN", masquerade, masquerade))
	nat.add(postroutingChain, fmt.Sprintf("-j MARK --set-xmark 0x0/%#x", masquerade))
	nat.add(postroutingChain, "-j MASQUERADE --random-fully")

	filter.add(refuseChain, isNotNew, "-j RETURN")
	filter.add(refuseChain, frontendIn(rejectSet), "-j", rejectChain)
	filter.add(refuseChain, frontendIn(servicesSet), "-j RETURN")
	filter.add(refuseChain, frontendIn(withinSet), "-j RETURN")
	icmp := "icmp"
	if family == service.IPv6 {
		icmp = "ipv6-icmp"
	}
	// Addresses of ours can be pinged, and that is all.
	filter.add(refuseChain, "!", "-p", icmp, match(addressesSet, family, "dst"), "-j", rejectChain)
	if len(dataplane.OfFamily(family, config.ServiceCIDRs)) > 0 {
		filter.add(refuseChain, match(serviceCIDRsSet, family, "dst"), "-m addrtype ! --dst-type LOCAL -j DROP")
	}
	// The kernel limits ICMP errors, so that a client might wait for one.
	filter.add(rejectChain, "-p tcp -j REJECT --reject-with tcp-reset")
	filter.add(rejectChain, "-j REJECT")
	return []table{mangle, nat, filter}
}

func (t *table) add(chain string, words ...string) {
	t.rules = append(t.rules, chain+" "+strings.Join(words, " "))
}

func match(kind setKind, family service.Family, flags string) string {
	return fmt.Sprintf("-m set --match-set %s %s", setName(kind, family), flags)
}

// fromPods matches packets of local pods, or is "" if there are none.
func fromPods(config *dataplane.Config, family service.Family) string {
	pods := config.Pods.Of(family)
	switch {
	case pods.None():
		return ""
	case pods.Bridge != "":
		return "-i " + pods.Bridge
	case pods.InterfacePrefix != "":
		return "-i " + pods.InterfacePrefix + "+"
	}
	return match(podsSet, family, "src")
}

// script returns what iptables-restore --noflush takes to make a table's chains
// anew, of which there may be some. There is no moment without them: the kernel
// takes each table at once.
func (t *table) script(have []string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "*%s\n", t.name)
	for _, c := range t.chains {
		fmt.Fprintf(&b, ":%s - [0:0]\n", c)
	}
	for _, r := range t.rules {
		fmt.Fprintf(&b, "-A %s\n", r)
	}
	for _, j := range t.jumps {
		// One is left where it is: others may want to be first as well.
		n := 0
		for _, line := range have {
			if line == jumpLine(t.name, j) {
				if n++; n > 1 {
					fmt.Fprintf(&b, "-D %s -j %s\n", j[0], j[1])
				}
			}
		}
		if n == 0 {
			fmt.Fprintf(&b, "-I %s -j %s\n", j[0], j[1])
		}
	}
	b.WriteString("COMMIT\n")
	return b.String()
}

func jumpLine(table string, jump [2]string) string {
	return fmt.Sprintf("%s -A %s -j %s", table, jump[0], jump[1])
}

// removal returns what takes everything of ours away that a listing has.
func removal(have []string) string {
	var b strings.Builder
	for _, name := range []string{"mangle", "nat", "filter"} {
		var jumps, flushes, chains []string
		for _, line := range have {
			rest, found := strings.CutPrefix(line, name+" ")
			if !found {
				continue
			}
			if chain, is := strings.CutPrefix(rest, ":"); is {
				flushes = append(flushes, "-F "+chain)
				chains = append(chains, "-X "+chain)
			} else if jump, is := strings.CutPrefix(rest, "-A "); is && !strings.HasPrefix(jump, chainPrefix) {
				jumps = append(jumps, "-D "+jump)
			}
		}
		if all := append(append(jumps, flushes...), chains...); len(all) > 0 {
			fmt.Fprintf(&b, "*%s\n%s\nCOMMIT\n", name, strings.Join(all, "\n"))
		}
	}
	return b.String()
}

// ourLines returns what of a listing by iptables-save is ours, each line with
// its table: chains and rules, and the jumps of others' chains to them.
func ourLines(listing string) []string {
	var lines []string
	name := ""
	for line := range strings.Lines(listing) {
		line = strings.TrimSpace(line)
		switch {
		case strings.HasPrefix(line, "*"):
			name = line[1:]
		case strings.HasPrefix(line, ":"+chainPrefix):
			chain, _, _ := strings.Cut(line, " ")
			lines = append(lines, name+" "+chain)
		case strings.HasPrefix(line, "-A ") && strings.Contains(line, " "+chainPrefix):
			lines = append(lines, name+" "+line)
		}
	}
	return lines
}
