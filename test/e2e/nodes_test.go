package e2e

import (
	"slices"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// exclude labels Nodes as those that load balancers keep away from.
func (c *cluster) exclude(nodes ...string) {
	c.t.Helper()
	c.labelNodes(corev1.LabelNodeExcludeBalancers+"=", nodes...)
}

// include takes back what exclude did.
func (c *cluster) include(nodes ...string) {
	c.t.Helper()
	c.labelNodes(corev1.LabelNodeExcludeBalancers+"-", nodes...)
}

func (c *cluster) labelNodes(label string, nodes ...string) {
	c.t.Helper()
	c.kubectl(slices.Concat([]string{"label", "node"}, nodes, []string{label})...)
}

func (c *cluster) node(name string) *corev1.Node {
	c.t.Helper()
	var node corev1.Node
	if err := c.api.Get(c.t.Context(), client.ObjectKey{Name: name}, &node); err != nil {
		c.t.Fatalf("reading Node %s: %v", name, err)
	}
	return &node
}

// setNodeReady gives a Node's condition Ready a status, as its kubelet or the
// node lifecycle controller does.
func (c *cluster) setNodeReady(name string, status corev1.ConditionStatus) {
	c.t.Helper()
	node := c.node(name)
	before := client.MergeFrom(node.DeepCopy())
	node.Status.Conditions = slices.DeleteFunc(node.Status.Conditions, func(condition corev1.NodeCondition) bool {
		return condition.Type == corev1.NodeReady
	})
	node.Status.Conditions = append(node.Status.Conditions, corev1.NodeCondition{Type: corev1.NodeReady, Status: status, Reason: "Test"})
	if err := c.api.Status().Patch(c.t.Context(), node, before); err != nil {
		c.t.Fatalf("writing the status of Node %s: %v", name, err)
	}
}

// recreate makes a Node that was deleted again, with its status.
func (c *cluster) recreate(node *corev1.Node) {
	c.t.Helper()
	node.ResourceVersion, node.UID = "", ""
	created := node.DeepCopy()
	if err := c.api.Create(c.t.Context(), created); err != nil {
		c.t.Fatalf("making Node %s again: %v", node.Name, err)
	}
	created.Status = node.Status
	if err := c.api.Status().Update(c.t.Context(), created); err != nil {
		c.t.Fatalf("writing the status of Node %s: %v", node.Name, err)
	}
}
