package controller

import (
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/fairway-lb/fairway/api/v1alpha2"
	"github.com/fairway-lb/fairway/controller/ipam"
	"github.com/fairway-lb/fairway/internal/note"
)

// reasonAllocated is the reason of ConditionAllocated while it is True. While
// it is False, the reason is that of the refusal.
const reasonAllocated = "Allocated"

// conditionOf says in a Service's status whether its request is met, in the
// words of the event. It does not change when the controller is restarted:
// else each restart would write to every Service.
func conditionOf(svc *corev1.Service, outcome ipam.Outcome) metav1.Condition {
	c := metav1.Condition{
		Type:               v1alpha2.ConditionAllocated,
		Status:             metav1.ConditionTrue,
		Reason:             reasonAllocated,
		Message:            "Assigned " + originText(outcome.Held),
		ObservedGeneration: svc.Generation,
	}
	switch {
	case outcome.Refusal != nil:
		c.Status, c.Reason, c.Message = metav1.ConditionFalse, string(outcome.Refusal.Reason), refusedText(outcome)
	case outcome.Lacks != nil:
		c.Message += ". It has no second address yet: " + outcome.Lacks.Message
	}
	c.Message = note.Clip(c.Message)
	return c
}

// conditionsOf returns those that a Service is to carry. A conflict of traffic
// policies is one while it lasts; over tells that the Service still carries
// one that is over.
func conditionsOf(svc *corev1.Service, outcome ipam.Outcome, conflict ipam.PolicyConflict) (conditions []metav1.Condition, over bool) {
	conditions = []metav1.Condition{conditionOf(svc, outcome)}
	if conflict.Any() {
		return append(conditions, policyConflictCondition(svc, conflict)), false
	}
	return conditions, meta.FindStatusCondition(svc.Status.Conditions, v1alpha2.ConditionTrafficPolicyConflict) != nil
}

// sameConditions tells whether a Service carries conditions. The generation
// alone is no reason to write them again.
func sameConditions(svc *corev1.Service, want []metav1.Condition) bool {
	return !slices.ContainsFunc(want, func(want metav1.Condition) bool {
		have := meta.FindStatusCondition(svc.Status.Conditions, want.Type)
		return have == nil || have.Status != want.Status || have.Reason != want.Reason || have.Message != want.Message
	})
}

func messagesOf(conditions []metav1.Condition) (text string) {
	for _, condition := range conditions {
		text += condition.Message
	}
	return text
}

// refusedText explains why a Service has no address, or not those that it asks
// for.
func refusedText(outcome ipam.Outcome) string {
	if len(outcome.Held) == 0 {
		return "No address assigned: " + outcome.Refusal.Message
	}
	return fmt.Sprintf("The Service keeps %s: %s", addressesText(outcome.Held), outcome.Refusal.Message)
}

// originText says which addresses are from which Eip.
func originText(allocations []ipam.Allocation) string {
	texts := make([]string, len(allocations))
	for i, allocation := range allocations {
		texts[i] = allocation.Address.String()
		switch {
		case i+1 < len(allocations) && allocations[i+1].Pool == allocation.Pool:
			// The next one says it for both.
		case allocation.Pool == "":
			texts[i] += ", which is in no Eip"
		default:
			texts[i] += fmt.Sprintf(" from Eip %q", allocation.Pool)
		}
	}
	return strings.Join(texts, " and ")
}

func addressesText(allocations []ipam.Allocation) string {
	texts := make([]string, len(allocations))
	for i, allocation := range allocations {
		texts[i] = allocation.Address.String()
	}
	return strings.Join(texts, " and ")
}
