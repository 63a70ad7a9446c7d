package nftables

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/fairway-lb/fairway/dataplane"
	"github.com/fairway-lb/fairway/dataplane/service"
)

// kernelFreesChains tells whether a chain can be removed together with the
// last element that leads to it, which is so since Linux 6.2.
func kernelFreesChains() (bool, error) {
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		return false, fmt.Errorf("find the version of the kernel: %w", err)
	}
	return atLeast(unix.ByteSliceToString(u.Release[:]), 6, 2), nil
}

// atLeast reads a release as in 6.1.0-18-amd64.
func atLeast(release string, major, minor int) bool {
	var x, y int
	if n, _ := fmt.Sscanf(release, "%d.%d", &x, &y); n < 2 {
		return false
	}
	return x > major || x == major && y >= minor
}

// features are what the tables are made of, and what fails without it.
var features = []struct {
	name string
	use  func(*batch, *rule)
}{
	{"nf_tables", func(*batch, *rule) {}},
	{"maps and sets with concatenated ranges", func(b *batch, r *rule) { addSets(b, r.family, &dataplane.Config{}) }},
	{"chains of type nat", func(b *batch, r *rule) {
		b.addBaseChain(r.family, postroutingChain, "nat", unix.NF_INET_POST_ROUTING, prioritySNAT)
	}},
	{"dnat", func(b *batch, r *rule) {
		b.addBaseChain(r.family, preroutingChain, "nat", unix.NF_INET_PRE_ROUTING, priorityDNAT)
		r.meta(unix.NFT_META_MARK, reg0).saddr(reg0).dport(reg0 + r.width()).dnat()
	}},
	{"masquerade", func(b *batch, r *rule) { r.masquerade() }},
	{"numgen", func(b *batch, r *rule) { r.draw(2, reg0) }},
	{"hash", func(b *batch, r *rule) { r.hash(service.HashSource, 0) }},
	{"fib", func(b *batch, r *rule) { r.fib(unix.NFTA_FIB_F_DADDR) }},
	{"reject", func(b *batch, r *rule) { r.reject(unix.NFT_REJECT_TCP_RST, 0) }},
	{"ct", func(b *batch, r *rule) { r.ct(unix.NFT_CT_STATUS, reg0).originalDaddr(reg0) }},
}

// probe has the kernel judge everything that the table of a family can have,
// and keep none of it.
func probe(s *socket, config *dataplane.Config, f service.Family) error {
	whole := newProbe(f)
	addSets(whole, f, config)
	addChains(whole, f)
	for _, c := range []class{
		{behaviour: internal, cluster: 1, sticky: true},
		{behaviour: externalLocal, cluster: 1, local: 1, nodePort: true},
		{behaviour: external, cluster: 1, hash: service.HashSourcePort},
	} {
		c.addTo(whole, f, config)
	}
	learn{timeout: time.Second}.addTo(whole, f)
	addDispatch(whole, f, config)
	err := s.check(whole)
	if err == nil {
		return nil
	}
	if errors.Is(err, os.ErrPermission) {
		return fmt.Errorf("the nftables backend needs CAP_NET_ADMIN: %w", err)
	}
	// One by one, for what to say.
	var lacking []string
	for _, feature := range features {
		t := newProbe(f)
		t.addChain(f, refuseChain)
		r := t.rule(f)
		feature.use(t, r)
		if len(r.encoder) > 0 {
			t.addRule(refuseChain, r)
		}
		if err := s.check(t); err != nil {
			lacking = append(lacking, fmt.Sprintf("%s for %s", feature.name, f))
		}
	}
	return fmt.Errorf("%w: %w", missing(lacking), err)
}

func newProbe(family service.Family) *batch {
	t := &batch{table: tableName + "-probe"}
	t.addTable(family)
	return t
}

var errMissing = errors.New("the nftables backend needs Linux 5.13 or later with nf_tables")

func missing(what []string) error {
	if len(what) == 0 {
		what = []string{"something that the tables need together"}
	}
	return fmt.Errorf("%w: this kernel lacks %s; use the iptables or IPVS backend instead", errMissing, strings.Join(what, ", "))
}
