package controller

import (
	"context"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/fairway-lb/fairway/api/v1alpha2"
	"github.com/fairway-lb/fairway/controller/ipam"
)

// maxUsedBytes bounds status.used and status.quarantined each, so that an Eip
// stays within what etcd takes for one object (1.5 MiB) however many addresses
// it has in use. The highest addresses are left out; status.usage counts all.
const maxUsedBytes = 512 << 10

// writeStatus writes a changed status, unless the one before was written just
// now: then it comes back later. It comes back, too, when the next address has
// rested long enough.
func (r *reconciler) writeStatus(ctx context.Context, req request, eip *v1alpha2.Eip, problem string) (reconcile.Result, error) {
	now := r.now()
	if rest := r.statuses[eip.Name].Add(statusInterval).Sub(now); rest > 0 {
		return reconcile.Result{RequeueAfter: rest}, nil
	}
	resting := r.ipam.Quarantined(eip.Name)
	next := firstOfAll(resting)
	r.wakeRested(eip.Name, next, now)
	status := r.statusOf(eip, resting, problem)
	if !equality.Semantic.DeepEqual(status, eip.Status) {
		original := eip.DeepCopy()
		eip.Status = status
		if err := r.patch(ctx, req, r.patchStatus, eip, original); err != nil {
			return reconcile.Result{}, err
		}
		r.statuses[eip.Name] = now
	}
	if next.IsZero() {
		return reconcile.Result{}, nil
	}
	return reconcile.Result{RequeueAfter: max(next.Sub(now), time.Millisecond)}, nil
}

// statusOf sums up a pool. One that is not in service has no numbers.
func (r *reconciler) statusOf(eip *v1alpha2.Eip, resting map[netip.Addr]time.Time, problem string) v1alpha2.EipStatus {
	var status v1alpha2.EipStatus
	holders := r.ipam.Holders(eip.Name)
	if usage, ok := r.ipam.Usage(eip.Name); ok {
		status = v1alpha2.EipStatus{
			Usage:       usage.InUse,
			PoolSize:    ipam.SaturatingInt(usage.Total),
			Total:       usage.Total.String(),
			Free:        usage.Free.String(),
			Occupied:    usage.Full(),
			V4:          usage.First.Is4(),
			Ready:       problem == "",
			Used:        usedText(holders),
			Quarantined: quarantinedText(resting),
		}
		if usage.First.IsValid() {
			status.FirstIP, status.LastIP = usage.First.String(), usage.Last.String()
		}
	}
	status.Conditions = slices.Clone(eip.Status.Conditions)
	for _, condition := range r.eipConditions(eip, holders, problem) {
		setCondition(&status.Conditions, condition, r.now())
	}
	return status
}

func usedText(holders []ipam.Holder) map[string]string {
	var used map[string]string
	bytes := 0
	for _, holder := range holders {
		addr, services := holder.Address.String(), joined(holder.Services)
		if bytes += len(addr) + len(services); bytes > maxUsedBytes {
			break
		}
		if used == nil {
			used = make(map[string]string, len(holders))
		}
		used[addr] = services
	}
	return used
}

// joined writes several Services as OpenELB does.
func joined(services []ipam.ServiceKey) string {
	texts := make([]string, len(services))
	for i, service := range services {
		texts[i] = service.String()
	}
	return strings.Join(texts, ";")
}

func quarantinedText(resting map[netip.Addr]time.Time) map[string]metav1.Time {
	var texts map[string]metav1.Time
	bytes := 0
	for _, addr := range slices.SortedFunc(maps.Keys(resting), netip.Addr.Compare) {
		text := addr.String()
		if bytes += len(text) + len(time.RFC3339); bytes > maxUsedBytes {
			break
		}
		if texts == nil {
			texts = make(map[string]metav1.Time, len(resting))
		}
		// Whole seconds, and not too early.
		texts[text] = metav1.NewTime(resting[addr].Add(time.Second - 1).Truncate(time.Second))
	}
	return texts
}

// firstOfAll is when the next address has rested, zero if none rests.
func firstOfAll(resting map[netip.Addr]time.Time) (first time.Time) {
	for _, until := range resting {
		if first.IsZero() || until.Before(first) {
			first = until
		}
	}
	return first
}
