package main

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	networkingv1 "k8s.io/api/networking/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// serviceCIDRs are where cluster IPs come from, by name. It is nil where the API
// server does not say.
type serviceCIDRs map[string]*networkingv1.ServiceCIDR

// readServiceCIDRs asks the API server, which does not say before Kubernetes
// 1.33.
func readServiceCIDRs(ctx context.Context, reader client.Reader) (serviceCIDRs, error) {
	var list networkingv1.ServiceCIDRList
	err := reader.List(ctx, &list)
	if meta.IsNoMatchError(err) || apierrors.IsNotFound(err) || apierrors.IsForbidden(err) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("listing ServiceCIDRs: %w", err)
	}
	all := serviceCIDRs{}
	for i := range list.Items {
		all[list.Items[i].Name] = &list.Items[i]
	}
	return all, nil
}

// prefixes returns all of them, sorted.
func (s serviceCIDRs) prefixes() (all []netip.Prefix, err error) {
	for name, c := range s {
		of, err := prefixes(strings.Join(c.Spec.CIDRs, ","))
		if err != nil {
			return nil, fmt.Errorf("ServiceCIDR %s: %w", name, err)
		}
		all = append(all, of...)
	}
	slices.SortFunc(all, netip.Prefix.Compare)
	return slices.Compact(all), nil
}
