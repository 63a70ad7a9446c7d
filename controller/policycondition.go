package controller

import (
	"fmt"
	"net/netip"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/fairway-lb/fairway/api/v1alpha2"
	"github.com/fairway-lb/fairway/controller/ipam"
	"github.com/fairway-lb/fairway/internal/note"
)

// Reasons of ConditionTrafficPolicyConflict.
const (
	reasonPoliciesDiffer  = "PoliciesDiffer"  // one is Local, the other Cluster
	reasonSelectorsDiffer = "SelectorsDiffer" // both are Local
)

// policyConflictCondition says with whom a Service shares an address without
// agreeing on the nodes that announce it, and which nodes these are. It holds
// for every protocol.
func policyConflictCondition(svc *corev1.Service, conflict ipam.PolicyConflict) metav1.Condition {
	c := metav1.Condition{Type: v1alpha2.ConditionTrafficPolicyConflict, Status: metav1.ConditionTrue, ObservedGeneration: svc.Generation}
	if len(conflict.OtherPolicy) > 0 {
		theirs := corev1.ServiceExternalTrafficPolicyLocal
		if conflict.Local {
			theirs = corev1.ServiceExternalTrafficPolicyCluster
		}
		c.Reason = reasonPoliciesDiffer
		c.Message = fmt.Sprintf("The Service shares %s with %s, whose externalTrafficPolicy is %s: the stricter policy holds, and the address is announced only from nodes that have ready endpoints of the Services whose policy is Local. Give all the same policy, or different addresses",
			addrsText(conflict.Addresses), servicesText(conflict.OtherPolicy), theirs)
	} else {
		c.Reason = reasonSelectorsDiffer
		c.Message = fmt.Sprintf("The Service shares %s with %s, whose externalTrafficPolicy is Local, too, and which has another selector: the address is announced only from nodes that have ready endpoints of all of them, or if there is none, of the oldest. Give all the same selector, or different addresses",
			addrsText(conflict.Addresses), servicesText(conflict.OtherSelector))
	}
	c.Message = note.Clip(c.Message)
	return c
}

func addrsText(addrs []netip.Addr) string {
	texts := make([]string, len(addrs))
	for i, addr := range addrs {
		texts[i] = addr.String()
	}
	return strings.Join(texts, " and ")
}

func servicesText(services []ipam.ServiceKey) string {
	texts := make([]string, len(services))
	for i, service := range services {
		texts[i] = service.String()
	}
	return "Service " + someOf(texts)
}
