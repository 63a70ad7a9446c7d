package e2e

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// pause waits until the kernels of all nodes follow what was done, and looks at
// what they forward.
func (w *churn) pause() {
	w.t.Helper()
	for _, node := range w.nodeNames() {
		if w.down[node] {
			w.startOn(node)
		}
	}
	w.objectsSettle()
	w.did("the objects have settled")
	w.mark()
	w.kernelsSettle()
	w.did("the kernels have settled")
	w.nextRound()
	w.look()
	for _, p := range slices.Clone(w.pods) {
		if p.left { // and no node leads there any more
			w.removePod(p)
		}
	}
}

// objectsSettle waits for what the controllers have to add.
func (w *churn) objectsSettle() {
	w.t.Helper()
	for slot, s := range w.slots {
		if s == nil {
			continue
		}
		vip := churnVIP(slot)
		w.hasIP("dev", s.name, vip[0]+","+vip[1])
		var want []string
		for _, p := range w.podsOf(s.app, "") {
			if p.ready {
				want = append(want, p.Addr4().String(), p.Addr6().String())
			}
		}
		slices.Sort(want)
		w.eventually("the EndpointSlices of "+s.name, func() string {
			var list discoveryv1.EndpointSliceList
			if err := w.api.List(w.t.Context(), &list, client.InNamespace("dev"), client.MatchingLabels{discoveryv1.LabelServiceName: s.name}); err != nil {
				return err.Error()
			}
			var got []string
			for _, slice := range list.Items {
				for _, e := range slice.Endpoints {
					if *e.Conditions.Ready {
						got = append(got, e.Addresses...)
					}
				}
			}
			slices.Sort(got)
			if !slices.Equal(got, want) {
				return fmt.Sprintf("%v are ready, want %v", got, want)
			}
			return ""
		})
	}
}

// mark changes a Service and an EndpointSlice that nobody uses: a kernel that
// has the change has all earlier ones, or they are held back.
func (w *churn) mark() {
	w.t.Helper()
	w.marker++
	meta := metav1.ObjectMeta{Namespace: "dev", Name: "marker"}
	w.patch(&corev1.Service{ObjectMeta: meta}, object{"spec": object{"ports": []object{{"port": w.markerPort()}}}})
	w.patch(&discoveryv1.EndpointSlice{ObjectMeta: meta}, object{"endpoints": []object{{"addresses": []string{w.markerAddress()}}}})
}

func (w *churn) markerPort() int { return 1000 + w.marker }

func (w *churn) markerAddress() string {
	return fmt.Sprintf("198.18.%d.%d", w.marker/200, 1+w.marker%200)
}

// kernelsSettle waits until all nodes have the marker, and nothing changes any
// more.
func (w *churn) kernelsSettle() {
	w.t.Helper()
	marked := regexp.MustCompile(fmt.Sprintf(`(?s)\b%d\b.*\b%s\b|\b%[2]s\b.*\b%[1]d\b`, w.markerPort(), regexp.QuoteMeta(w.markerAddress())))
	var last string
	since := time.Now()
	w.eventually("the kernels settle", func() string {
		w.wait(500 * time.Millisecond)
		var all []string
		missing := ""
		for _, node := range w.nodeNames() {
			lines := w.listing(node)
			if !marked.MatchString(strings.Join(lines, "\n")) {
				missing = node + " does not follow"
			}
			all = append(all, lines...)
		}
		if now := strings.Join(all, "\n"); now != last {
			last, since = now, time.Now()
		}
		if missing == "" && time.Since(since) < heldBack {
			return "they change"
		}
		return missing
	})
}

// listing is what of Fairway is in a node's kernel, without what depends on the
// way in which it came about, and on traffic: counters, clients that are
// remembered, the order of sets and chains.
func (w *churn) listing(node string) []string {
	w.t.Helper()
	n := w.Node(node).Namespace
	if w.dataplane == "ipvs" {
		return w.listingOfIPVS(n)
	}
	lines := tableLines(w.inside(n, "nft", "list", "ruleset"))
	for _, program := range []string{"iptables-save", "ip6tables-save"} {
		lines = append(lines, chainLines(program, w.inside(n, program))...)
	}
	slices.Sort(lines)
	return lines
}

// tableLines are those of Fairway's nf_tables.
func tableLines(ruleset string) (lines []string) {
	table, block, number := "", "", 0
	for line := range strings.Lines(ruleset) {
		line = strings.Trim(strings.TrimSpace(line), ",")
		if strings.HasPrefix(line, "table ") {
			table, block = line, ""
		} else if strings.HasSuffix(line, "{") {
			block, number = line, 0
		}
		if line = strings.TrimSuffix(strings.TrimPrefix(line, "elements = { "), " }"); line == "" || line == "}" || !strings.Contains(table, " fairway") {
			continue
		}
		if strings.HasPrefix(block, "chain") {
			number++
			lines = append(lines, fmt.Sprintf("%s %s %d: %s", table, block, number, line))
			continue
		}
		for element := range strings.SplitSeq(line, ", ") {
			if !strings.Contains(element, " expires ") { // learned from packets
				lines = append(lines, fmt.Sprintf("%s %s: %s", table, block, element))
			}
		}
	}
	return lines
}

// chainLines are those of Fairway's chains of iptables and of what leads there.
func chainLines(family, saved string) (lines []string) {
	table := ""
	count := map[string]int{}
	for line := range strings.Lines(saved) {
		line = strings.TrimSpace(line)
		switch {
		case strings.HasPrefix(line, "*"):
			table = family + " " + line
		case strings.HasPrefix(line, ":FAIRWAY-"), strings.HasPrefix(line, ":IPVS-FAIRWAY-"):
			chain, _, _ := strings.Cut(line, " ")
			lines = append(lines, table+" "+chain)
		case strings.HasPrefix(line, "-A ") && strings.Contains(line, "FAIRWAY-"):
			chain := table + " " + strings.Fields(line)[1]
			count[chain]++
			lines = append(lines, fmt.Sprintf("%s %d: %s", chain, count[chain], line))
		}
	}
	return lines
}

// startFresh removes all of Fairway from nodes and has it start there: what is
// in the kernel is as before.
func (w *churn) startFresh(nodes ...string) {
	w.t.Helper()
	program, err := w.Program("fairway-speaker")
	if err != nil {
		w.t.Fatal(err)
	}
	before := map[string][]string{}
	for _, node := range nodes {
		before[node] = w.listing(node)
		if err := w.speakers[node].Stop(w.t.Context()); err != nil {
			w.t.Fatal(err)
		}
		w.inside(w.Node(node).Namespace, program, "cleanup")
		if left := w.listing(node); len(left) > 0 {
			w.t.Errorf("after cleanup, %s has\n%s", node, strings.Join(left, "\n"))
		}
		w.startOn(node)
	}
	for _, node := range nodes {
		w.eventually("the kernel of "+node+" is as after a fresh start", func() string {
			w.wait(100 * time.Millisecond)
			fresh := w.listing(node)
			if slices.Equal(before[node], fresh) {
				return ""
			}
			return fmt.Sprintf("only before:\n%s\nonly afresh:\n%s", without(before[node], fresh), without(fresh, before[node]))
		})
	}
}

// without returns the lines of a that are not in b.
func without(a, b []string) string {
	in := map[string]bool{}
	for _, line := range b {
		in[line] = true
	}
	return strings.Join(slices.DeleteFunc(slices.Clone(a), func(line string) bool { return in[line] }), "\n")
}
