package e2e

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"

	"go4.org/netipx"
	corev1 "k8s.io/api/core/v1"

	"github.com/fairway-lb/fairway/api/v1alpha2"
)

// consistent waits until all that the API server shows fits together: every
// address is in an Eip that lists its holders, and only them, and nothing that
// was deleted or given up is left.
func (s *witness) consistent() {
	s.t.Helper()
	s.eventually("pools and Services fit together", func() string {
		s.check()
		services, pools := s.services(), s.pools()
		used := map[string]map[string]string{}
		space := map[string]*netipx.IPSet{}
		for _, pool := range pools {
			used[pool.Name] = map[string]string{}
			set, err := pool.Spec.AddressSet()
			if err != nil {
				return fmt.Sprintf("Eip %s: %v", pool.Name, err)
			}
			space[pool.Name] = set
		}
		for _, svc := range services {
			if !wants(svc) && (carriesMark(svc) || !svc.DeletionTimestamp.IsZero()) {
				return "not let go: " + describe(svc)
			}
			if !wants(svc) {
				continue
			}
			for _, addr := range addressesOf(svc) {
				pool := poolOf(addr)
				if space[pool] == nil || !space[pool].Contains(addr) {
					return fmt.Sprintf("%s is in no Eip: %s", addr, describe(svc))
				}
				holders := append(strings.FieldsFunc(used[pool][addr.String()], isSemicolon), svc.Namespace+"/"+svc.Name)
				slices.Sort(holders)
				used[pool][addr.String()] = strings.Join(holders, ";")
			}
		}
		for _, pool := range pools {
			shown := map[string]string{}
			for addr, text := range pool.Status.Used {
				holders := strings.FieldsFunc(text, isSemicolon)
				slices.Sort(holders)
				shown[addr] = strings.Join(holders, ";")
			}
			if !maps.Equal(shown, used[pool.Name]) || pool.Status.Usage != len(shown) {
				return fmt.Sprintf("Eip %s has usage %d and used %v, want %v", pool.Name, pool.Status.Usage, shown, used[pool.Name])
			}
		}
		return ""
	})
}

func isSemicolon(r rune) bool { return r == ';' }

// served waits until every Service has what can be had.
func (s *witness) served() {
	s.t.Helper()
	s.eventually("every Service has what it can have", func() string {
		s.check()
		services, pools := s.services(), s.pools()
		for _, svc := range services {
			if missing := missingOf(svc, services, pools); missing != "" {
				return fmt.Sprintf("%s: %s\noperations:\n%s", missing, describe(svc), s.about("Service "+svc.Namespace+"/"+svc.Name))
			}
		}
		return ""
	})
}

// missingOf says what a Service could have and has not, in a world with room.
func missingOf(svc *corev1.Service, services []*corev1.Service, pools []v1alpha2.Eip) string {
	if !wants(svc) {
		return ""
	}
	request := requestOf(svc)
	if request.malformed {
		return ""
	}
	held := addressesOf(svc)
	if len(request.addresses) > 0 {
		if policyOf(svc) == corev1.IPFamilyPolicyRequireDualStack && len(request.addresses) < 2 {
			return "" // the second comes from a pool, or there is none
		}
		free := func(addr netip.Addr) bool { return canHave(svc, addr, services, pools, request) }
		if slices.ContainsFunc(request.addresses, func(addr netip.Addr) bool { return !free(addr) }) {
			return ""
		}
		for _, addr := range request.addresses {
			if !slices.Contains(held, addr) {
				return addr.String() + " is missing"
			}
		}
		return ""
	}
	candidates := candidatesOf(svc, pools, request)
	var wanted []bool // whether an IPv4 address, an IPv6 address
	for _, family := range svc.Spec.IPFamilies {
		four := family == corev1.IPv4Protocol
		offered := slices.ContainsFunc(candidates, func(pool string) bool { return four || pool == poolD })
		switch {
		case offered:
			wanted = append(wanted, four)
		case policyOf(svc) != corev1.IPFamilyPolicyPreferDualStack:
			return ""
		}
	}
	for _, four := range wanted {
		has := slices.ContainsFunc(held, func(addr netip.Addr) bool {
			return addr.Is4() == four && (len(request.pools) == 0 || slices.Contains(request.pools, poolOf(addr))) && !isForced(poolOf(addr), pools)
		})
		if !has {
			return fmt.Sprintf("an address of %v is missing (IPv4: %t)", candidates, four)
		}
	}
	return ""
}

// canHave tells whether an address that a Service asks for is its own or could
// be.
func canHave(svc *corev1.Service, addr netip.Addr, services []*corev1.Service, pools []v1alpha2.Eip, request request) bool {
	if !usable(svc, addr) || len(request.pools) > 0 && !slices.Contains(request.pools, poolOf(addr)) {
		return false
	}
	exists := slices.ContainsFunc(pools, func(pool v1alpha2.Eip) bool {
		set, err := pool.Spec.AddressSet()
		return err == nil && pool.DeletionTimestamp.IsZero() && set.Contains(addr)
	})
	return exists && !slices.ContainsFunc(services, func(other *corev1.Service) bool {
		return other != svc && slices.Contains(addressesOf(other), addr) && !mayShare(svc, other, addr)
	})
}

// isForced tells whether a pool is being deleted by force. One that is deleted
// without gives nothing any more, but who has an address of it keeps it.
func isForced(name string, pools []v1alpha2.Eip) bool {
	return slices.ContainsFunc(pools, func(pool v1alpha2.Eip) bool {
		return pool.Name == name && !pool.DeletionTimestamp.IsZero() && pool.Annotations[v1alpha2.AnnotationForceDelete] == "true"
	})
}

// candidatesOf are the pools that may give a Service an address.
func candidatesOf(svc *corev1.Service, pools []v1alpha2.Eip, request request) []string {
	var names []string
	for _, pool := range pools {
		isDefault := pool.Annotations[v1alpha2.AnnotationDefaultEip] == "true"
		named := slices.Contains(request.pools, pool.Name)
		automatic := len(request.pools) == 0 && (isDefault || slices.Contains(pool.Spec.Namespaces, svc.Namespace))
		if pool.DeletionTimestamp.IsZero() && (named || automatic) {
			names = append(names, pool.Name)
		}
	}
	return names
}
