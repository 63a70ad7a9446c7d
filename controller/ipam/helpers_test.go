package ipam

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"go4.org/netipx"

	"github.com/fairway-lb/fairway/api/v1alpha2"
)

// life is an allocator that a test lives through, step by step.
type life struct {
	*testing.T
	*Allocator
}

func newLife(t *testing.T, pools ...Pool) life {
	l := life{T: t, Allocator: New()}
	for _, p := range pools {
		l.SetPool(p)
	}
	return l
}

// assign compares the outcome of a request, written as "address pool choice",
// "refused Reason", or "kept address: Reason". It settles a move at once.
func (l life) assign(want string, req Request) {
	l.Helper()
	got, refusal := l.Assign(req)
	l.Settle(req.Service)
	if text := outcome(got, refusal); text != want {
		l.Fatalf("Assign(%s) = %s, want %s", requestText(req), text, want)
	}
}

// holds compares what Services hold, as "ns/name=address@pool".
func (l life) holds(want ...string) {
	l.Helper()
	for _, w := range want {
		name, held, _ := strings.Cut(w, "=")
		got, _ := l.Lookup(service(name))
		text := "nothing"
		if got.Held() {
			text = got.Address.String() + "@" + got.Pool
		}
		if text != held {
			l.Fatalf("%s holds %s, want %s", name, text, held)
		}
	}
}

// usage compares a pool's numbers, as "in use/total".
func (l life) usage(pool, want string) {
	l.Helper()
	u, ok := l.Usage(pool)
	if got := fmt.Sprintf("%d/%s", u.InUse, u.Total); !ok || got != want {
		l.Fatalf("usage of %s is %s, want %s", pool, got, want)
	}
}

func outcome(got Allocation, refusal *Refusal) string {
	switch {
	case refusal != nil && got.Held():
		return fmt.Sprintf("kept %s: %s", got.Address, refusal.Reason)
	case refusal != nil:
		return fmt.Sprintf("refused %s", refusal.Reason)
	default:
		return fmt.Sprintf("%s %s %s", got.Address, got.Pool, got.Choice)
	}
}

func requestText(r Request) string {
	return fmt.Sprintf("%s pool=%q address=%s", r.Service, r.Pool, r.Address)
}

func service(text string) ServiceKey {
	namespace, name, _ := strings.Cut(text, "/")
	return ServiceKey{Namespace: namespace, Name: name}
}

func req(name string, changes ...func(*Request)) Request {
	r := Request{Service: service(name)}
	for _, change := range changes {
		change(&r)
	}
	return r
}

func named(pool string) func(*Request) { return func(r *Request) { r.Pool = pool } }
func asking(addr string) func(*Request) {
	return func(r *Request) { r.Address = netip.MustParseAddr(addr) }
}
func families(f ...Family) func(*Request) {
	return func(r *Request) { r.Families = f }
}
func labelled(key, value string) func(*Request) {
	return func(r *Request) { r.NamespaceLabels = map[string]string{key: value} }
}

func poolOf(name, addresses string, changes ...func(*Pool)) Pool {
	r, err := v1alpha2.ParseAddress(addresses)
	if err != nil {
		panic(fmt.Sprintf("%s: %v", addresses, err))
	}
	p := Pool{Name: name, Ranges: []netipx.IPRange{r}}
	for _, change := range changes {
		change(&p)
	}
	return p
}

func isDefault(p *Pool) { p.Default = true }
func disabled(p *Pool)  { p.Disabled = true }
func deleting(p *Pool)  { p.Deleting = true }
func boundTo(namespaces ...string) func(*Pool) {
	return func(p *Pool) { p.Namespaces = namespaces }
}
func selecting(key, value string) func(*Pool) {
	return func(p *Pool) { p.NamespaceSelector = map[string]string{key: value} }
}
func priority(n int) func(*Pool) { return func(p *Pool) { p.Priority = n } }
