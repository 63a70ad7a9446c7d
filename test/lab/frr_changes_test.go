package lab

import (
	"context"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"
)

// TestFRRChanges: the commands that lead from one configuration to another.
func TestFRRChanges(t *testing.T) {
	const tor = "router bgp 1"
	for _, c := range []struct {
		name          string
		before, after string
		want          []string
	}{
		{
			name:   "nothing",
			before: "router bgp 1\n neighbor a remote-as 2\nexit\n",
			after:  "router bgp 1\n neighbor a remote-as 2\nexit\n",
		},
		{
			name:   "a new neighbor",
			before: "router bgp 1\nexit\n",
			after:  "router bgp 1\n neighbor a remote-as 2\n address-family ipv4 unicast\n  neighbor a activate\n exit-address-family\nexit\n",
			want:   []string{tor, "neighbor a remote-as 2", tor, "address-family ipv4 unicast", tor, "address-family ipv4 unicast", "neighbor a activate"},
		},
		{
			name:   "a neighbor less, with which its lines go",
			before: "router bgp 1\n neighbor a remote-as 2\n neighbor a passive\n neighbor b remote-as 2\n",
			after:  "router bgp 1\n neighbor b remote-as 2\n",
			want:   []string{tor, "no neighbor a remote-as 2"},
		},
		{
			name:   "another AS, which the neighbor's other lines outlive",
			before: "router bgp 1\n neighbor a remote-as 2\n neighbor a passive\n neighbor a password x\n",
			after:  "router bgp 1\n neighbor a remote-as external\n neighbor a passive\n neighbor a password y\n",
			want:   []string{tor, "no neighbor a password x", tor, "neighbor a remote-as external", tor, "neighbor a password y"},
		},
		{
			name:   "another AS behind an interface",
			before: "router bgp 1\n neighbor eth0 interface remote-as 2\n",
			after:  "router bgp 1\n neighbor eth0 interface remote-as 3\n",
			want:   []string{tor, "neighbor eth0 interface remote-as 3"},
		},
		{
			name:   "another neighbor of the same AS",
			before: "router bgp 1\n neighbor a remote-as 2\n",
			after:  "router bgp 1\n neighbor b remote-as 2\n",
			want:   []string{tor, "no neighbor a remote-as 2", tor, "neighbor b remote-as 2"},
		},
		{
			name:   "a range less",
			before: "router bgp 1\n neighbor g peer-group\n neighbor g remote-as 2\n bgp listen range x peer-group g\n",
			after:  "router bgp 1\n",
			want:   []string{tor, "no bgp listen range x peer-group g", tor, "no neighbor g peer-group"},
		},
		{
			name:   "another profile of BFD",
			before: "router bgp 1\n neighbor a remote-as 2\n neighbor a bfd profile x\n",
			after:  "router bgp 1\n neighbor a remote-as 2\n neighbor a bfd profile y\n",
			want:   []string{tor, "neighbor a bfd profile y"},
		},
		{
			name:   "BFD no more",
			before: "router bgp 1\n neighbor a remote-as 2\n neighbor a bfd profile x\n",
			after:  "router bgp 1\n neighbor a remote-as 2\n",
			want:   []string{tor, "no neighbor a bfd"},
		},
		{
			name:   "a line that says no",
			before: "router bgp 1\n no bgp ebgp-requires-policy\n",
			after:  "router bgp 1\n",
			want:   []string{tor, "bgp ebgp-requires-policy"},
		},
		{
			name:   "a block goes as a whole",
			before: "bfd\n profile a\n  transmit-interval 10\n exit\n profile b\n exit\nexit\n",
			after:  "bfd\n profile b\n exit\nexit\n",
			want:   []string{"bfd", "no profile a"},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := frrChanges(c.before, c.after); !slices.Equal(got, c.want) {
				t.Errorf("the commands are\n%q, want\n%q", got, c.want)
			}
		})
	}
}

// TestFRRFollowsChanges: what a running FRR makes of a change is what it reads
// when it starts with it.
func TestFRRFollowsChanges(t *testing.T) {
	l := newLab(t, 1)
	ctx := testContext(t, routerPatience)
	node := l.Node("n1").Addr4()
	full := Neighbor{Address: node, AS: 65100, Passive: true, Password: "x", Port: 1790, Hold: 9 * time.Second, BFD: fastBFD, TTLSecurityHops: 1}
	// change returns a neighbor like another one.
	change := func(n Neighbor, f func(*Neighbor)) []Neighbor {
		f(&n)
		return []Neighbor{n}
	}
	within := Neighbor{Range: netip.MustParsePrefix(lanPrefix4), AS: 65100, Password: "x", Hold: 9 * time.Second}
	behind := Neighbor{Interface: "eth0", AS: 65100, ExtendedNextHop: true}
	r := addRouter(t, ctx, l, RouterOptions{Kind: FRR, AS: 65001, Neighbors: []Neighbor{full}})
	for _, step := range []struct {
		name      string
		neighbors []Neighbor
	}{
		{"another AS", change(full, func(n *Neighbor) { n.AS = 65101 })},
		{"any AS", change(full, func(n *Neighbor) { n.AS = 0 })},
		{"the same AS as the router", change(full, func(n *Neighbor) { n.AS, n.TTLSecurityHops = 65001, 0 })},
		{"an AS and its other lines", change(full, func(n *Neighbor) { n.AS, n.Password, n.BFD, n.Hold, n.AddPaths = 65102, "", nil, 0, true })},
		{"another profile of BFD", change(full, func(n *Neighbor) { n.BFD = &BFDProfile{MinTx: time.Second, MinRx: time.Second, Multiplier: 5} })},
		{"a range", []Neighbor{within}},
		{"another AS of a range", change(within, func(n *Neighbor) { n.AS = 65101 })},
		{"behind an interface", []Neighbor{behind}},
		{"another AS behind it", change(behind, func(n *Neighbor) { n.AS = 65101 })},
		{"none", nil},
		{"all at once", []Neighbor{full, behind}},
	} {
		opts := r.Options()
		opts.Neighbors = step.neighbors
		must(t, r.Reconfigure(ctx, opts))
		changed := configurationOf(t, ctx, r)
		must(t, r.Restart(ctx))
		if fresh := configurationOf(t, ctx, r); changed != fresh {
			t.Errorf("%s: after the change it has\n%s, want as from its file\n%s", step.name, changed, fresh)
		}
		for _, n := range step.neighbors {
			if !strings.Contains(changed, frrName(n)) {
				t.Errorf("%s: there is no neighbor %s in\n%s", step.name, frrName(n), changed)
			}
		}
	}
}

func configurationOf(t *testing.T, ctx context.Context, r *Router) string {
	t.Helper()
	text, err := r.Show(ctx, "show running-config")
	must(t, err)
	return text
}
