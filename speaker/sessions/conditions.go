package sessions

import (
	"time"

	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/fairway-lb/fairway/api/v1alpha2"
	"github.com/fairway-lb/fairway/speaker/bgp"
)

// condition is a finding as a condition, without its time.
func condition(name string, f finding) metav1.Condition {
	c := metav1.Condition{Type: name, Status: metav1.ConditionFalse, Reason: f.reason, Message: f.message}
	if f.ok {
		c.Status = metav1.ConditionTrue
	}
	return c
}

// recorded is the finding that a condition shows.
func recorded(conditions []metav1.Condition, name string) finding {
	c := meta.FindStatusCondition(conditions, name)
	if c == nil {
		return finding{ok: true}
	}
	return finding{c.Status == metav1.ConditionTrue, c.Reason, c.Message}
}

// setTimes gives conditions without a time the one that they had before, or
// now where their status changed.
func setTimes(conditions, before []metav1.Condition, now time.Time) {
	for i := range conditions {
		c := &conditions[i]
		if !c.LastTransitionTime.IsZero() {
			continue
		}
		c.LastTransitionTime = atSecond(now)
		if old := meta.FindStatusCondition(before, c.Type); old != nil && old.Status == c.Status {
			c.LastTransitionTime = old.LastTransitionTime
		}
	}
}

// atSecond is a time as the API server keeps it.
func atSecond(t time.Time) metav1.Time { return metav1.NewTime(t.Truncate(time.Second)) }

// confDraft is the entry of the BgpConf but for its times.
func confDraft(router *bgp.Router, ready finding) *v1alpha2.NodeConfStatus {
	entry := &v1alpha2.NodeConfStatus{Conditions: []metav1.Condition{condition(v1alpha2.ConditionReady, ready)}}
	if router != nil {
		entry.RouterID, entry.AS = router.ID.String(), v1alpha2.Uint32(router.AS)
	}
	return entry
}

// completeConf gives a draft what depends on the entry before it.
func completeConf(draft, have *v1alpha2.NodeConfStatus, now time.Time) *v1alpha2.NodeConfStatus {
	if draft == nil {
		return nil
	}
	entry := draft.DeepCopy()
	var before []metav1.Condition
	if have != nil {
		before = have.Conditions
	}
	setTimes(entry.Conditions, before, now)
	return entry
}

func sameConf(a, b *v1alpha2.NodeConfStatus) bool { return equality.Semantic.DeepEqual(a, b) }
