// Package v1alpha1 is the legacy version of Fairway's API, that of OpenELB
// while it was called Porter, and its conversion to v1alpha2 and back. It is
// served, and never stored.
//
// The conversion loses nothing. What v1alpha1 has no field for is in an
// annotation of the v1alpha1 form, AnnotationV1alpha2Spec, so that a client
// that reads, changes and writes keeps it; where both speak, the field wins.
// What v1alpha2 has no field for is in AnnotationV1alpha1Spec of the v1alpha2
// form. Both keys are the conversion's own: content that it did not write is
// ignored, and goes with the next write. The status is the same in both
// versions.
//
// +kubebuilder:object:generate=true
// +groupName=network.kubesphere.io
package v1alpha1
