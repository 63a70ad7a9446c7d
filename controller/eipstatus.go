package controller

import (
	"context"
	"strings"

	"k8s.io/apimachinery/pkg/api/equality"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/fairway-lb/fairway/api/v1alpha2"
	"github.com/fairway-lb/fairway/controller/ipam"
)

// maxUsedBytes bounds status.used, so that an Eip stays within what etcd
// takes for one object (1.5 MiB) however many addresses it has in use. The
// highest addresses are left out; status.usage counts all.
const maxUsedBytes = 1 << 20

// writeStatus writes a changed status, unless the one before was written just
// now: then it comes back later.
func (r *reconciler) writeStatus(ctx context.Context, req request, eip *v1alpha2.Eip) (reconcile.Result, error) {
	usage, ok := r.ipam.Usage(eip.Name)
	if !ok {
		return reconcile.Result{}, nil
	}
	now := r.now()
	if rest := r.statuses[eip.Name].Add(statusInterval).Sub(now); rest > 0 {
		return reconcile.Result{RequeueAfter: rest}, nil
	}
	status := statusOf(usage, r.ipam.Holders(eip.Name))
	if equality.Semantic.DeepEqual(status, eip.Status) {
		return reconcile.Result{}, nil
	}
	original := eip.DeepCopy()
	eip.Status = status
	if err := r.patch(ctx, req, r.patchStatus, eip, original); err != nil {
		return reconcile.Result{}, err
	}
	r.statuses[eip.Name] = now
	return reconcile.Result{}, nil
}

// statusOf sums up a pool that is in service.
func statusOf(usage ipam.Usage, holders []ipam.Holder) v1alpha2.EipStatus {
	status := v1alpha2.EipStatus{
		Usage:    usage.InUse,
		PoolSize: ipam.SaturatingInt(usage.Total),
		Occupied: usage.Full(),
		FirstIP:  usage.First.String(),
		LastIP:   usage.Last.String(),
		V4:       usage.First.Is4(),
		Ready:    true,
	}
	bytes := 0
	for _, holder := range holders {
		addr, services := holder.Address.String(), joined(holder.Services)
		if bytes += len(addr) + len(services); bytes > maxUsedBytes {
			break
		}
		if status.Used == nil {
			status.Used = make(map[string]string, len(holders))
		}
		status.Used[addr] = services
	}
	return status
}

// joined writes several Services as OpenELB does.
func joined(services []ipam.ServiceKey) string {
	texts := make([]string, len(services))
	for i, service := range services {
		texts[i] = service.String()
	}
	return strings.Join(texts, ";")
}
