package controller

import (
	"bytes"
	"hash/maphash"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/fairway-lb/fairway/api/v1alpha2"
)

const (
	// disputeTries is how often the same is written at once: a user who cleans
	// up, and a controller on its way out, have stopped undoing it by then.
	disputeTries = 10
	// minDisputeDelay doubles with each further try, up to maxDisputeDelay,
	// which is how long a Service may show what others wrote when the other
	// side has given up.
	minDisputeDelay = time.Second
	maxDisputeDelay = 5 * time.Minute
	// disputeForgotten is how long it must be quiet for a dispute to be over.
	disputeForgotten = 10 * time.Minute
)

// disputes notices that what this process writes into a Service is undone
// again and again, and slows down: two controllers that insist would keep the
// API server and everybody who watches busy for ever.
type disputes struct {
	seed maphash.Seed
	of   map[request]*dispute
}

type dispute struct {
	mark, status uint64 // digests of what was written last
	times        int    // how often the same was written since
	last         time.Time
	until        time.Time
}

func newDisputes() disputes {
	return disputes{seed: maphash.MakeSeed(), of: map[request]*dispute{}}
}

// wroteMark notes a successful write of label and finalizer. It tells whether
// the same was written before, and whether to slow down from now on.
func (d *disputes) wroteMark(req request, text string, now time.Time) (again, slow bool) {
	of := d.at(req)
	return of.wrote(&of.mark, maphash.String(d.seed, text), now)
}

// wroteStatus does so for the status.
func (d *disputes) wroteStatus(req request, text string, now time.Time) (again, slow bool) {
	of := d.at(req)
	return of.wrote(&of.status, maphash.String(d.seed, text), now)
}

// rest is how long a Service is not to be written to.
func (d *disputes) rest(req request, now time.Time) time.Duration {
	if of := d.of[req]; of != nil {
		return max(0, of.until.Sub(now))
	}
	return 0
}

func (d *disputes) forget(req request) {
	delete(d.of, req)
}

func (d *disputes) at(req request) *dispute {
	if d.of[req] == nil {
		d.of[req] = &dispute{}
	}
	return d.of[req]
}

func (d *dispute) wrote(last *uint64, digest uint64, now time.Time) (again, slow bool) {
	again = *last == digest
	if !again || now.Sub(d.last) > disputeForgotten {
		d.times = 0
	}
	*last, d.last = digest, now
	d.times++
	excess := d.times - disputeTries
	if excess < 1 {
		return again, false
	}
	delay := maxDisputeDelay
	if excess < 16 { // no overflow
		delay = min(minDisputeDelay<<(excess-1), maxDisputeDelay)
	}
	d.until = now.Add(delay)
	return again, excess == 1
}

// otherManager names who else wrote last to what is ours in a Service, "" if
// the API server does not tell.
func otherManager(svc *corev1.Service) string {
	var name string
	var latest time.Time
	for _, field := range svc.ManagedFields {
		if field.Manager == fieldManager || field.Time == nil || !field.Time.After(latest) || field.FieldsV1 == nil {
			continue
		}
		for _, ours := range []string{`"f:loadBalancer"`, `"f:` + v1alpha2.LabelPool, v1alpha2.FinalizerService, v1alpha2.ConditionAllocated, v1alpha2.ConditionTrafficPolicyConflict} {
			if bytes.Contains(field.FieldsV1.GetRawBytes(), []byte(ours)) {
				name, latest = field.Manager, field.Time.Time
			}
		}
	}
	return name
}
