package main

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"

	"github.com/go-logr/logr/testr"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/fairway-lb/fairway/dataplane"
)

// What the Node and ServiceCIDRs say counts once all there was at the start is
// known, and from then on with each change.
func TestRanges(t *testing.T) {
	cidr := func(name string, cidrs ...string) *networkingv1.ServiceCIDR {
		return &networkingv1.ServiceCIDR{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: networkingv1.ServiceCIDRSpec{CIDRs: cidrs}}
	}
	node := func(cidrs ...string) *corev1.Node { return &corev1.Node{Spec: corev1.NodeSpec{PodCIDRs: cidrs}} }
	flags := forwarding{detectLocal: byPodCIDR}
	config, err := flags.config(node(), serviceCIDRs{"kubernetes": cidr("kubernetes", "10.96.0.0/16"), "old": cidr("old", "10.95.0.0/16")}, testr.New(t))
	if err != nil {
		t.Fatal(err)
	}
	config.NodePortAddresses = []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}
	var told []string
	r := &ranges{flags: flags, config: config, log: testr.New(t), reopen: func(c dataplane.Config) {
		told = append(told, fmt.Sprint(c.Pods.CIDRs, c.ServiceCIDRs, c.NodePortAddresses))
	}}
	expect := func(what string, want ...string) {
		t.Helper()
		if !slices.Equal(told, want) {
			t.Errorf("%s: told %q, want %q", what, told, want)
		}
		told = nil
	}
	const nodePorts = " [192.0.2.0/24]"
	r.setNode(node())
	r.setServiceCIDR(cidr("kubernetes", "10.96.0.0/16"))
	expect("a part")
	r.loaded()
	expect("one went before anybody looked", "[] [10.96.0.0/16]"+nodePorts)
	r.setNode(node("10.244.1.0/24", "fd00:10:244:1::/64"))
	expect("pods", "[10.244.1.0/24 fd00:10:244:1::/64] [10.96.0.0/16]"+nodePorts)
	r.setNode(node("10.244.1.0/24", "fd00:10:244:1::/64"))
	r.setServiceCIDR(cidr("kubernetes", "10.96.0.0/16"))
	expect("nothing new")
	more := cidr("more", "fd00:96::/112", "10.32.0.0/16")
	r.setServiceCIDR(more)
	expect("another", "[10.244.1.0/24 fd00:10:244:1::/64] [10.32.0.0/16 10.96.0.0/16 fd00:96::/112]"+nodePorts)
	r.setNode(node("garbage"))
	expect("garbage")
	r.setNode(node("10.244.7.0/24"))
	r.deleteServiceCIDR(more)
	expect("one goes", "[10.244.7.0/24] [10.32.0.0/16 10.96.0.0/16 fd00:96::/112]"+nodePorts, "[10.244.7.0/24] [10.96.0.0/16]"+nodePorts)

	// An API server that knows no ServiceCIDRs, and pods that are told otherwise.
	r = &ranges{flags: forwarding{detectLocal: "bridge=cni0"}, config: dataplane.Config{Pods: dataplane.Detector{Bridge: "cni0"}}, log: testr.New(t), reopen: r.reopen}
	if err := r.config.Check(); err != nil {
		t.Fatal(err)
	}
	r.setNode(node("10.244.1.0/24"))
	r.loaded()
	expect("neither counts")
}
