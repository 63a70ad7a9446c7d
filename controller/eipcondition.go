package controller

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/fairway-lb/fairway/api/v1alpha2"
	"github.com/fairway-lb/fairway/controller/ipam"
)

// Reasons of the conditions of Eips.
const (
	reasonServed       = "Served"
	reasonInvalid      = "Invalid"
	reasonDisabled     = "Disabled"
	reasonBeingDeleted = "BeingDeleted"
	reasonOverlap      = "Overlap"
	reasonNoOverlap    = "NoOverlap"
	reasonFull         = "Full"
	reasonHasRoom      = "HasRoom"
	reasonHeld         = "Held"
	reasonNotHeld      = "NotHeld"
	reasonCut          = "AddressesCut"
	reasonAllInside    = "AllInside"
	reasonDefaults     = "SeveralDefaults"
	reasonOneDefault   = "NoOther"
)

// eipConditions says how a pool is. Ready, Overlapping and Exhausted are
// always there; the others while they are True, and False once they were.
func (r *reconciler) eipConditions(eip *v1alpha2.Eip, holders []ipam.Holder, problem string) []metav1.Condition {
	outside := r.ipam.OutOfPool(eip.Name)
	conditions := []metav1.Condition{readyCondition(eip, problem)}
	if usage, ok := r.ipam.Usage(eip.Name); ok {
		conditions = append(conditions, overlapCondition(r.ipam.Overlaps(eip.Name)), exhaustedCondition(usage))
	}
	waits := !eip.DeletionTimestamp.IsZero() && len(holders)+len(outside) > 0
	conditions = append(conditions,
		only(eip, waits, v1alpha2.ConditionDeletionWaits, reasonHeld, waitsFor(slices.Concat(holders, outside)), reasonNotHeld)...)
	conditions = append(conditions,
		only(eip, len(outside) > 0, v1alpha2.ConditionOutOfPool, reasonCut, cutText(outside), reasonAllInside)...)
	others := r.otherDefaults(eip.Name)
	conditions = append(conditions,
		only(eip, len(others) > 0, v1alpha2.ConditionDefaultConflict, reasonDefaults, defaultsText(others), reasonOneDefault)...)
	for i := range conditions {
		conditions[i].ObservedGeneration = eip.Generation
	}
	return conditions
}

func readyCondition(eip *v1alpha2.Eip, problem string) metav1.Condition {
	c := metav1.Condition{Type: v1alpha2.ConditionReady, Status: metav1.ConditionTrue, Reason: reasonServed, Message: "Addresses are given from the pool"}
	switch {
	case problem != "":
		c.Status, c.Reason, c.Message = metav1.ConditionFalse, reasonInvalid, problem
	case !eip.DeletionTimestamp.IsZero():
		c.Status, c.Reason, c.Message = metav1.ConditionFalse, reasonBeingDeleted, "No address is given because the Eip is being deleted. Those in use are kept"
	case eip.Spec.Disable:
		c.Status, c.Reason, c.Message = metav1.ConditionFalse, reasonDisabled, "No address is given because spec.disable is true. Those in use are kept"
	}
	return c
}

func overlapCondition(others []string) metav1.Condition {
	if len(others) == 0 {
		return metav1.Condition{Type: v1alpha2.ConditionOverlapping, Status: metav1.ConditionFalse, Reason: reasonNoOverlap, Message: "No other Eip has addresses of this one"}
	}
	return metav1.Condition{Type: v1alpha2.ConditionOverlapping, Status: metav1.ConditionTrue, Reason: reasonOverlap,
		Message: fmt.Sprintf("eip address overlap with %s: none is given twice, but each Eip counts them as its own. Take the common addresses out of one with spec.exclude", someOf(others))}
}

func exhaustedCondition(usage ipam.Usage) metav1.Condition {
	c := metav1.Condition{Type: v1alpha2.ConditionExhausted, Status: metav1.ConditionFalse, Reason: reasonHasRoom, Message: "There are addresses to give"}
	if usage.Free.Sign() > 0 {
		return c
	}
	c.Status, c.Reason = metav1.ConditionTrue, reasonFull
	c.Message = fmt.Sprintf("None of %s addresses can be given", usage.Total)
	if usage.Quarantined > 0 {
		c.Message += fmt.Sprintf(" (%d are in quarantine)", usage.Quarantined)
	}
	c.Message += ": free one, or add some to spec.addresses"
	return c
}

// only returns a condition while it is True, or was.
func only(eip *v1alpha2.Eip, holds bool, kind, reason, message, otherwise string) []metav1.Condition {
	switch {
	case holds:
		return []metav1.Condition{{Type: kind, Status: metav1.ConditionTrue, Reason: reason, Message: message}}
	case meta.FindStatusCondition(eip.Status.Conditions, kind) != nil:
		return []metav1.Condition{{Type: kind, Status: metav1.ConditionFalse, Reason: otherwise}}
	}
	return nil
}

// waitsFor names the first Services that hold addresses of a pool.
func waitsFor(holders []ipam.Holder) string {
	var services []string
	for _, holder := range holders {
		for _, service := range holder.Services {
			services = append(services, service.String())
		}
	}
	return fmt.Sprintf("The Eip stays until its addresses are given up by Service %s: delete the Services or have them ask for another Eip; annotation %s: \"true\" moves them to other Eips, or takes their addresses away",
		someOf(services), v1alpha2.AnnotationForceDelete)
}

func cutText(outside []ipam.Holder) string {
	texts := make([]string, len(outside))
	for i, holder := range outside {
		texts[i] = fmt.Sprintf("%s of Service %s", holder.Address, joined(holder.Services))
	}
	return fmt.Sprintf("In use, and no longer in the pool: %s. The Services keep them: put them back into spec.addresses, or have the Services ask for another address", someOf(texts))
}

// otherDefaults names the other default pools, if this is one.
func (r *reconciler) otherDefaults(name string) []string {
	if _, is := r.defaults[name]; !is {
		return nil
	}
	return slices.DeleteFunc(slices.Sorted(maps.Keys(r.defaults)), func(other string) bool { return other == name })
}

func defaultsText(others []string) string {
	return fmt.Sprintf("already exists a default EIP: %s. Both serve, the first by name before the other: take annotation %s off all but one", someOf(others), v1alpha2.AnnotationDefaultEip)
}

// someOf joins the first few of many texts.
func someOf(texts []string) string {
	const named = 3
	if more := len(texts) - named; more > 0 {
		return fmt.Sprintf("%s and %d more", strings.Join(texts[:named], ", "), more)
	}
	return strings.Join(texts, ", ")
}

// setCondition sets a condition, with the time of its last change.
func setCondition(conditions *[]metav1.Condition, condition metav1.Condition, now time.Time) {
	condition.LastTransitionTime = metav1.NewTime(now.Truncate(time.Second))
	meta.SetStatusCondition(conditions, condition)
}
