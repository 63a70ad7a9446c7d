package ipam

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/labels"

	"github.com/fairway-lb/fairway/api/v1alpha2"
)

// life is an allocator that a test lives through, step by step.
type life struct {
	*testing.T
	*Allocator
	clock *time.Time
}

func newLife(t *testing.T, pools ...Pool) life {
	clock := time.Date(2026, 1, 2, 3, 0, 0, 0, time.UTC)
	l := life{T: t, Allocator: New(func() time.Time { return clock }), clock: &clock}
	for _, p := range pools {
		l.SetPool(p)
	}
	return l
}

// restarted is a new process: it knows the pools and what the Services show,
// in the order given, and their requests.
func (l life) restarted(requests ...Request) life {
	fresh := newLife(l.T)
	*fresh.clock = *l.clock
	for _, p := range l.pools {
		fresh.SetPool(p.Pool)
	}
	for _, r := range requests {
		held, _ := l.Lookup(r.Service)
		label := ""
		var found []netip.Addr
		for i, x := range held {
			if found = append(found, x.Address); i == 0 {
				label = x.Pool
			}
		}
		fresh.Adopt(r, found, label)
	}
	for name := range l.pools {
		for addr, until := range l.Quarantined(name) {
			fresh.Rest(name, addr, until)
		}
	}
	return fresh
}

func (l life) wait(d time.Duration) { *l.clock = l.clock.Add(d) }

// assign compares the outcome of a request, and settles a move at once.
func (l life) assign(want string, req Request) Outcome {
	l.Helper()
	out := l.Assign(req)
	l.Settle(req.Service)
	if text := outcomeText(out); text != want {
		l.Fatalf("Assign(%s) = %s, want %s (%v, %v)", requestText(req), text, want, out.Refusal, out.Lacks)
	}
	return out
}

// outcomeText is "address pool choice", two of these joined by " + ",
// "refused Reason", or "kept address: Reason", and "lacks Reason" behind it.
func outcomeText(out Outcome) string {
	var held, addrs []string
	for _, x := range out.Held {
		held = append(held, fmt.Sprintf("%s %s %s", x.Address, x.Pool, x.Choice))
		addrs = append(addrs, x.Address.String())
	}
	text := strings.Join(held, " + ")
	switch {
	case out.Refusal != nil && len(held) > 0:
		text = fmt.Sprintf("kept %s: %s", strings.Join(addrs, " + "), out.Refusal.Reason)
	case out.Refusal != nil:
		text = fmt.Sprintf("refused %s", out.Refusal.Reason)
	}
	if out.Lacks != nil {
		text += " lacks " + string(out.Lacks.Reason)
	}
	return text
}

// holds compares what Services hold, as "ns/name=address@pool", two joined by
// "+".
func (l life) holds(want ...string) {
	l.Helper()
	for _, w := range want {
		name, want, _ := strings.Cut(w, "=")
		held, _ := l.Lookup(service(name))
		if text := allocationsText(held); text != want {
			l.Fatalf("%s holds %s, want %s", name, text, want)
		}
	}
}

func allocationsText(allocations []Allocation) string {
	if len(allocations) == 0 {
		return "nothing"
	}
	var texts []string
	for _, x := range allocations {
		texts = append(texts, x.Address.String()+"@"+x.Pool)
	}
	return strings.Join(texts, "+")
}

// usage compares a pool's numbers, as "in use/total", with ", n free" if it
// is not the difference, and ", n resting" if any do.
func (l life) usage(pool, want string) {
	l.Helper()
	u, ok := l.Usage(pool)
	if got := usageText(u); !ok || got != want {
		l.Fatalf("usage of %s is %s, want %s", pool, got, want)
	}
}

func usageText(u Usage) string {
	text := fmt.Sprintf("%d/%s", u.InUse, u.Total)
	if plain := u.Total.Int64() - int64(u.InUse); plain != u.Free.Int64() {
		text += fmt.Sprintf(", %s free", u.Free)
	}
	if u.Quarantined > 0 {
		text += fmt.Sprintf(", %d resting", u.Quarantined)
	}
	return text
}

// refusedWith compares the parts of a refusal's message.
func (l life) refusedWith(req Request, parts ...string) *Refusal {
	l.Helper()
	refusal := l.Assign(req).Refusal
	if refusal == nil {
		l.Fatalf("Assign(%s) was not refused", requestText(req))
	}
	for _, part := range parts {
		if !strings.Contains(refusal.Message, part) {
			l.Errorf("Assign(%s): %q does not mention %q", requestText(req), refusal, part)
		}
	}
	return refusal
}

func (l life) sameKeys(what string, got []ServiceKey, want ...string) {
	l.Helper()
	var texts []string
	for _, key := range got {
		texts = append(texts, key.String())
	}
	if !slices.Equal(texts, want) {
		l.Fatalf("%s: %q, want %q", what, texts, want)
	}
}

func requestText(r Request) string {
	return fmt.Sprintf("%s pools=%q addresses=%v families=%v %s key=%q ports=%v", r.Service, r.Pools, r.Addresses, r.Families, r.DualStack, r.ShareKey, r.Ports)
}

func service(text string) ServiceKey {
	namespace, name, _ := strings.Cut(text, "/")
	return ServiceKey{Namespace: namespace, Name: name}
}

func addr(text string) netip.Addr { return netip.MustParseAddr(text) }

func req(name string, changes ...func(*Request)) Request {
	r := Request{Service: service(name)}
	for _, change := range changes {
		change(&r)
	}
	return r
}

func named(pools ...string) func(*Request) { return func(r *Request) { r.Pools = pools } }
func asking(addrs ...string) func(*Request) {
	return func(r *Request) {
		for _, text := range addrs {
			r.Addresses = append(r.Addresses, addr(text))
		}
	}
}
func families(f ...Family) func(*Request) { return func(r *Request) { r.Families = f } }
func dual(policy DualStack) func(*Request) {
	return func(r *Request) { r.DualStack, r.Families = policy, []Family{IPv4, IPv6} }
}
func over(protocol string) func(*Request) { return func(r *Request) { r.Protocol = protocol } }
func key(text string) func(*Request)      { return func(r *Request) { r.ShareKey = text } }
func local(selector string) func(*Request) {
	return func(r *Request) { r.Local, r.Selector = true, selector }
}
func cluster(selector string) func(*Request) { return func(r *Request) { r.Selector = selector } }

// ports are TCP, unless below 0: then they are UDP.
func ports(numbers ...int) func(*Request) {
	return func(r *Request) {
		for _, n := range numbers {
			p := Port{"TCP", uint16(n)}
			if n < 0 {
				p = Port{"UDP", uint16(-n)}
			}
			r.Ports = append(r.Ports, p)
		}
	}
}
func labelled(key, value string) func(*Request) {
	return func(r *Request) { r.NamespaceLabels = map[string]string{key: value} }
}
func serviceLabelled(key, value string) func(*Request) {
	return func(r *Request) { r.ServiceLabels = map[string]string{key: value} }
}

// poolOf makes a pool of blocks separated by spaces, without those after "!".
func poolOf(name, addresses string, changes ...func(*Pool)) Pool {
	p := Pool{Name: name, Space: spaceOf(addresses)}
	for _, change := range changes {
		change(&p)
	}
	return p
}

// spaceOf takes "known" for usingKnownIPs.
func spaceOf(text string) Space {
	var spec v1alpha2.EipSpec
	for _, part := range strings.Fields(text) {
		switch excluded, ok := strings.CutPrefix(part, "!"); {
		case ok:
			spec.Exclude = append(spec.Exclude, v1alpha2.PoolAddress(excluded))
		case part == "known":
			spec.UsingKnownIPs = true
		case spec.Address == "":
			spec.Address = part
		default:
			spec.Addresses = append(spec.Addresses, v1alpha2.PoolAddress(part))
		}
	}
	blocks, excluded, err := spec.Blocks()
	if err != nil {
		panic(fmt.Sprintf("%s: %v", text, err))
	}
	return NewSpace(blocks, excluded, spec.UsingKnownIPs)
}

func isDefault(p *Pool) { p.Default = true }
func disabled(p *Pool)  { p.Disabled = true }
func deleting(p *Pool)  { p.Deleting = true }
func rehoming(p *Pool)  { p.Deleting, p.Rehome = true, true }
func exclusive(p *Pool) { p.Exclusive = true }
func rotating(p *Pool)  { p.Rotate = true }
func boundTo(namespaces ...string) func(*Pool) {
	return func(p *Pool) { p.Namespaces = namespaces }
}
func selecting(key, value string) func(*Pool) {
	return func(p *Pool) { p.NamespaceSelector = map[string]string{key: value} }
}
func selectingServices(selector string) func(*Pool) {
	parsed, err := labels.Parse(selector)
	if err != nil {
		panic(fmt.Sprintf("%s: %v", selector, err))
	}
	return func(p *Pool) { p.ServiceSelector = parsed }
}
func priority(n int) func(*Pool) { return func(p *Pool) { p.Priority = n } }
func protocol(name string) func(*Pool) {
	return func(p *Pool) { p.Protocol = name }
}
func quarantine(d time.Duration) func(*Pool) { return func(p *Pool) { p.Quarantine = d } }
func sharingAmong(namespaces ...string) func(*Pool) {
	return func(p *Pool) { p.SharingNamespaces = namespaces }
}
func limit(namespace string, n int) func(*Pool) {
	return func(p *Pool) {
		limits := map[string]int{namespace: n}
		for k, v := range p.NamespaceLimits {
			limits[k] = v
		}
		p.NamespaceLimits = limits
	}
}

func addrs(texts ...string) (parsed []netip.Addr) {
	for _, text := range texts {
		parsed = append(parsed, addr(text))
	}
	return parsed
}
