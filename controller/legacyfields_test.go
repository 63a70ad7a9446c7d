package controller

import (
	"reflect"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/fairway-lb/fairway/api/v1alpha2"
)

// The cache keeps that an Eip was written in v1alpha1, and nothing that grows
// with it.
func TestKeepLegacyFields(t *testing.T) {
	fields := &metav1.FieldsV1{Raw: []byte(`{"f:spec":{}}`)}
	eip := eipOf("eip", "10.0.0.1", func(eip *v1alpha2.Eip) {
		eip.ManagedFields = []metav1.ManagedFieldsEntry{
			{Manager: "a", APIVersion: "network.kubesphere.io/v1alpha2", FieldsV1: fields},
			{Manager: "b", APIVersion: "network.kubesphere.io/v1alpha1", FieldsV1: fields},
		}
	})
	kept, err := keepLegacyFields(eip)
	if err != nil {
		t.Fatal(err)
	}
	want := []metav1.ManagedFieldsEntry{{APIVersion: "network.kubesphere.io/v1alpha1"}}
	if got := kept.(*v1alpha2.Eip); !reflect.DeepEqual(got.ManagedFields, want) || !hasLegacyFields(got) {
		t.Errorf("kept are %+v", got.ManagedFields)
	}
	if other, err := keepLegacyFields("tombstone"); err != nil || other != "tombstone" {
		t.Errorf("what is no Eip becomes %v, %v", other, err)
	}
}
