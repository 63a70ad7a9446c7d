package e2e

import (
	"fmt"
	"strings"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/fairway-lb/fairway/api/v1alpha2"
)

// hasReason waits until a Service's condition has a reason, and a message with
// all the parts, and checks that a Warning says the same.
func (c *cluster) hasReason(name, reason string, parts ...string) {
	c.t.Helper()
	var message string
	c.eventually(fmt.Sprintf("Service %s has reason %s", name, reason), func() string {
		condition := meta.FindStatusCondition(c.service("dev", name).Status.Conditions, v1alpha2.ConditionAllocated)
		switch {
		case condition == nil:
			return "it has no condition"
		case condition.Reason != reason || (condition.Status == metav1.ConditionTrue) != (reason == "Allocated"):
			return fmt.Sprintf("it has %s %s: %s", condition.Status, condition.Reason, condition.Message)
		}
		for _, part := range parts {
			if !strings.Contains(condition.Message, part) {
				return fmt.Sprintf("%q is not in %q", part, condition.Message)
			}
		}
		message = condition.Message
		return ""
	})
	if reason != "Allocated" {
		c.hasEvent("Service", "dev", name, "Warning", message)
	}
}

// hasPoolCondition waits until a condition of an Eip has a status, and a
// message with all the parts.
func (c *cluster) hasPoolCondition(name, kind, status string, parts ...string) {
	c.t.Helper()
	c.eventually(fmt.Sprintf("condition %s of Eip %s is %s", kind, name, status), func() string {
		var pool v1alpha2.Eip
		if err := c.api.Get(c.t.Context(), client.ObjectKey{Name: name}, &pool); err != nil {
			return err.Error()
		}
		condition := meta.FindStatusCondition(pool.Status.Conditions, kind)
		if condition == nil || string(condition.Status) != status {
			return fmt.Sprintf("it is %+v", condition)
		}
		for _, part := range parts {
			if !strings.Contains(condition.Message, part) {
				return fmt.Sprintf("%q is not in %q", part, condition.Message)
			}
		}
		return ""
	})
}

// hasNumbers waits until an Eip's status has these numbers: usage, poolSize,
// free.
func (c *cluster) hasNumbers(name, numbers string) {
	c.t.Helper()
	c.eventually(fmt.Sprintf("Eip %s has usage, poolSize and free %s", name, numbers), func() string {
		if got := c.kubectl("get", "eip", name, "-o", "jsonpath={.status.usage} {.status.poolSize} {.status.free}"); got != numbers {
			return "it has " + got
		}
		return ""
	})
}

func (c *cluster) patchEip(name, spec string) {
	c.t.Helper()
	c.kubectl("patch", "eip", name, "--type=merge", "-p", `{"spec":`+spec+`}`)
}

// annotate changes annotations of a Service, as key=value or key-.
func (c *cluster) annotate(name string, annotations ...string) {
	c.t.Helper()
	c.kubectl(append([]string{"annotate", "--overwrite", "svc", "-n", "dev", name}, annotations...)...)
}

func (c *cluster) deleteServices(names ...string) {
	c.t.Helper()
	c.kubectl(append([]string{"delete", "svc", "-n", "dev", "--timeout=30s"}, names...)...)
}
