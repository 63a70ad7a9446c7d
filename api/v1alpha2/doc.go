// Package v1alpha2 is the stored version of Fairway's API: Eip, BgpConf and
// BgpPeer in group network.kubesphere.io, the annotation and label keys that
// Services carry, and the one parser of pool addresses.
//
// The three kinds are a superset, field for field, of those that OpenELB
// v0.6 served, so that its users' manifests work unchanged.
//
// +kubebuilder:object:generate=true
// +groupName=network.kubesphere.io
package v1alpha2
