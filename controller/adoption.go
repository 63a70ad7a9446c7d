package controller

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/fairway-lb/fairway/api/v1alpha2"
	"github.com/fairway-lb/fairway/controller/ipam"
	"github.com/fairway-lb/fairway/controller/wish"
)

// pageSize is how many Services the API server is asked for at once.
const pageSize = 1000

// adoptAll learns of all pools, then of every address that a Service has. It
// asks the API server itself: what the leader before this one wrote last may
// not be in the cache yet, and would be given away again. The Services that
// have none are then served in order of age.
func (r *reconciler) adoptAll(ctx context.Context) error {
	var eips v1alpha2.EipList
	if err := r.live.List(ctx, &eips); err != nil {
		return fmt.Errorf("listing all Eips: %w", err)
	}
	for i := range eips.Items {
		if err := r.adoptPool(ctx, &eips.Items[i]); err != nil {
			return err
		}
	}
	found, err := r.allServices(ctx)
	if err != nil {
		return err
	}
	slices.SortFunc(found, bySeniority)
	for _, svc := range found {
		r.adopt(svc, nil)
	}
	// What Services show counts before what Eips say that they have.
	recorded := recordedIn(eips.Items)
	var pending []ipam.ServiceKey
	for _, svc := range found {
		if r.adopt(svc, recorded[wish.KeyOf(svc)]); !r.holds(svc) {
			pending = append(pending, wish.KeyOf(svc))
		}
	}
	r.restoreQuarantine(eips.Items)
	r.retry(pending)
	log.FromContext(ctx).Info("Adopted the addresses that Services have",
		"adopted", len(found)-len(pending), "pending", len(pending), "eips", len(eips.Items))
	return nil
}

// adoptPool tells the allocator of a pool that is there when this process
// starts. What is wrong with it is said when the Eip is looked at.
func (r *reconciler) adoptPool(ctx context.Context, eip *v1alpha2.Eip) error {
	req := requestForEip(eip.Name)
	for {
		pool, readable, _ := poolOf(eip)
		err := r.guard(ctx, req, eip, readable)
		if !errors.Is(err, errBehind) {
			if err != nil {
				log.FromContext(ctx).Info("The Eip is not guarded by its finalizer", "eip", eip.Name, "error", err.Error())
			}
			if readable {
				r.ipam.SetPool(pool)
			}
			return nil
		}
		// Somebody else wrote in between, or deleted it.
		switch err := r.live.Get(ctx, req.NamespacedName, eip); {
		case apierrors.IsNotFound(err):
			return nil
		case err != nil:
			return fmt.Errorf("reading Eip %s: %w", eip.Name, err)
		}
	}
}

// allServices returns those that concern us.
func (r *reconciler) allServices(ctx context.Context) ([]*corev1.Service, error) {
	var found []*corev1.Service
	page := client.ListOptions{Limit: pageSize}
	for {
		var list corev1.ServiceList
		if err := r.live.List(ctx, &list, &page); err != nil {
			return nil, fmt.Errorf("listing all Services: %w", err)
		}
		for i := range list.Items {
			if svc := &list.Items[i]; r.concerns(svc) {
				svc.ManagedFields = nil               // they are most of it
				found = append(found, svc.DeepCopy()) // not to keep the page in memory
			}
		}
		if page.Continue = list.Continue; page.Continue == "" {
			return found, nil
		}
	}
}

// bySeniority puts those first that own an address which others claim too.
func bySeniority(a, b *corev1.Service) int {
	if marked(a) != marked(b) {
		if marked(a) {
			return -1
		}
		return 1
	}
	return cmp.Or(a.CreationTimestamp.Compare(b.CreationTimestamp.Time), cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Name, b.Name))
}

// adopt has a Service hold the addresses that it shows, or else those that an
// Eip's status records for it, if it holds none. Once all are adopted, an
// address of another Service is not taken for its own: whoever wrote it there,
// it was not this process.
func (r *reconciler) adopt(svc *corev1.Service, recorded []netip.Addr) {
	if r.holds(svc) {
		return
	}
	found, pool := addressesIn(svc, r.ipam), recordedPool(svc)
	if len(found) == 0 && wanted(svc, r.options.DefaultLoadBalancer) {
		found = slices.DeleteFunc(slices.Clone(recorded), r.ipam.InUse)
		found, pool = likeliest(found, pool, r.ipam)
	}
	if r.adopted {
		found = slices.DeleteFunc(found, r.ipam.InUse)
	}
	if len(found) == 0 {
		return
	}
	r.uids[wish.KeyOf(svc)] = svc.UID
	asked, _ := wish.Of(svc, nil, r.hasPool) // what cannot be read is refused later
	r.touch(r.ipam.Adopt(asked, found, pool)...)
}

// likeliest puts those addresses that Eips record for a Service first that are
// in the pool that it is marked with. If none is, the records are older than
// the mark, and it does not tell where they come from.
func likeliest(recorded []netip.Addr, pool string, pools *ipam.Allocator) (found []netip.Addr, origin string) {
	var inPool, elsewhere []netip.Addr
	for _, addr := range recorded {
		if pools.Contains(pool, addr) {
			inPool = append(inPool, addr)
		} else {
			elsewhere = append(elsewhere, addr)
		}
	}
	if len(inPool) == 0 {
		pool = ""
	}
	return slices.Concat(inPool, elsewhere), pool
}

// recordedIn reads the addresses that Eips record as used. OpenELB kept the
// truth there.
func recordedIn(eips []v1alpha2.Eip) map[ipam.ServiceKey][]netip.Addr {
	recorded := map[ipam.ServiceKey][]netip.Addr{}
	for i := range eips {
		for text, services := range eips[i].Status.Used {
			addr, err := netip.ParseAddr(text)
			if err != nil || addr.Zone() != "" {
				continue
			}
			for name := range strings.SplitSeq(services, ";") {
				namespace, name, _ := strings.Cut(name, "/")
				key := ipam.ServiceKey{Namespace: namespace, Name: name}
				recorded[key] = append(recorded[key], addr.Unmap())
			}
		}
	}
	for _, addresses := range recorded {
		slices.SortFunc(addresses, netip.Addr.Compare)
	}
	return recorded
}

// restoreQuarantine has addresses go on resting that rested before.
func (r *reconciler) restoreQuarantine(eips []v1alpha2.Eip) {
	for i := range eips {
		r.rested[eips[i].Name] = r.now() // it may be over before the Eip is looked at
		for text, until := range eips[i].Status.Quarantined {
			if addr, err := netip.ParseAddr(text); err == nil {
				r.ipam.Rest(eips[i].Name, addr, until.Time)
			}
		}
	}
}

func (r *reconciler) holds(svc *corev1.Service) bool {
	held, _ := r.ipam.Lookup(wish.KeyOf(svc))
	return len(held) > 0
}
