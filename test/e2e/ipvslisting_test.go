package e2e

import (
	"fmt"
	"slices"
	"strings"

	"github.com/moby/ipvs"
	"golang.org/x/sys/unix"

	"github.com/fairway-lb/fairway/test/lab"
)

// virtualService is one of IPVS.
type virtualService struct {
	*ipvs.Service
	endpoints []*ipvs.Destination
}

// virtualServices asks a node's kernel by netlink: /proc/net/ip_vs leaves some out
// where several namespaces have any.
func (w *churn) virtualServices(n *lab.Namespace) (all []virtualService) {
	w.t.Helper()
	if err := n.Do(func() error {
		handle, err := ipvs.New("")
		if err != nil {
			return err
		}
		defer handle.Close()
		services, err := handle.GetServices()
		if err != nil {
			return err
		}
		for _, s := range services {
			endpoints, err := handle.GetDestinations(s)
			if err != nil {
				return err
			}
			all = append(all, virtualService{s, endpoints})
		}
		return nil
	}); err != nil {
		w.t.Fatalf("reading the virtual services of %s: %v", n.Name(), err)
	}
	return all
}

// listingOfIPVS is listing for the dataplane of that name. Marks go by what has
// them, as their numbers may differ, and what is only kept for flows that have
// yet to end is left out.
func (w *churn) listingOfIPVS(n *lab.Namespace) (lines []string) {
	w.t.Helper()
	for _, family := range []string{"iptables", "ip6tables"} {
		lines = append(lines, chainLines(family, w.inside(n, family+"-legacy-save"))...)
	}
	virtuals := w.virtualServices(n)
	ending := map[string]bool{} // frontends, and their addresses
	for _, v := range virtuals {
		if v.ends() {
			ending[v.frontend()], ending[v.Address.String()] = true, true
		}
	}
	marked, mentioned := map[string]string{}, map[string]bool{}
	var addresses [][2]string // where, and which
	for line := range strings.Lines(w.inside(n, "ipset", "save")) {
		f := strings.Fields(line)
		if !strings.HasPrefix(f[1], "fairway-ipvs-") {
			continue
		}
		if f[0] == "create" { // with sizes, which follow from the past
			lines = append(lines, strings.Join(f[:3], " "))
			continue
		}
		if strings.HasPrefix(f[1], "fairway-ipvs-services-") && ending[f[2]] {
			continue
		}
		if i := slices.Index(f, "skbmark"); i > 0 {
			mark, _, _ := strings.Cut(f[i+1], "/")
			of := strings.TrimPrefix(mark, "0x") + f[1][len(f[1])-2:]
			if marked[of] == "" || f[2] < marked[of] {
				marked[of] = f[2]
			}
			f = f[:i]
		}
		if strings.HasPrefix(f[1], "fairway-ipvs-addresses-") {
			addresses = append(addresses, [2]string{f[1], f[2]})
			continue
		}
		addr, _, _ := strings.Cut(f[2], ",")
		mentioned[addr] = true
		lines = append(lines, strings.Join(f, " "))
	}
	for _, v := range virtuals {
		if v.ends() {
			continue
		}
		name := v.frontend()
		if v.FWMark != 0 {
			name = "within " + marked[fmt.Sprintf("%x-%s", v.FWMark, v.family())]
		}
		name = fmt.Sprintf("%s %s flags %x timeout %d netmask %x", name, v.SchedName, v.Flags, v.Timeout, v.Netmask)
		lines = append(lines, name)
		for _, e := range v.endpoints {
			if e.Weight > 0 {
				lines = append(lines, fmt.Sprintf("%s -> %s %d %d", name, e.Address, e.Port, e.Weight))
			}
		}
	}
	for line := range strings.Lines(w.inside(n, "ip", "-oneline", "address", "show")) {
		f := strings.Fields(line)
		if addr, _, _ := strings.Cut(f[3], "/"); f[1] == "fairway-ipvs" && !strings.HasPrefix(addr, "fe80:") {
			addresses = append(addresses, [2]string{f[1], addr})
		}
	}
	for _, a := range addresses {
		if mentioned[a[1]] || !ending[a[1]] {
			lines = append(lines, "address in "+a[0]+": "+a[1])
		}
	}
	slices.Sort(lines)
	return lines
}

// ends tells whether a virtual service gets no new flows: none of its endpoints
// does.
func (v *virtualService) ends() bool {
	return len(v.endpoints) > 0 && !slices.ContainsFunc(v.endpoints, func(e *ipvs.Destination) bool { return e.Weight > 0 })
}

// frontend is written as an ipset is.
func (v *virtualService) frontend() string {
	protocol := map[uint16]string{unix.IPPROTO_TCP: "tcp", unix.IPPROTO_UDP: "udp", unix.IPPROTO_SCTP: "sctp"}[v.Protocol]
	return fmt.Sprintf("%s,%s:%d", v.Address, protocol, v.Port)
}

// family is written as in the names of our ipsets.
func (v *virtualService) family() string {
	if v.AddressFamily == unix.AF_INET6 {
		return "6"
	}
	return "4"
}
