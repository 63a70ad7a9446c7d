package controller

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/fairway-lb/fairway/api/v1alpha1"
	"github.com/fairway-lb/fairway/api/v1alpha2"
)

// Whoever wrote an Eip in v1alpha1 left an entry of that version in its
// managed fields. From then on the API server converts with each write of the
// Eip, also of one in v1alpha2, and waits for the webhook that converts, ten
// seconds if it does not answer. The names of fields are the same in both
// versions, so such entries are made v1alpha2's: the Eip needs no conversion
// any more.

// keepLegacyFields leaves of an Eip's managed fields, for the cache, that
// there are entries in v1alpha1, and not which fields they have.
func keepLegacyFields(object any) (any, error) {
	eip, ok := object.(*v1alpha2.Eip)
	if !ok {
		return object, nil
	}
	var legacy []metav1.ManagedFieldsEntry
	for _, entry := range eip.ManagedFields {
		if isLegacy(entry) {
			legacy = append(legacy, metav1.ManagedFieldsEntry{APIVersion: entry.APIVersion})
		}
	}
	eip.ManagedFields = legacy
	return eip, nil
}

func isLegacy(entry metav1.ManagedFieldsEntry) bool {
	return entry.APIVersion == v1alpha1.GroupVersion.String()
}

// updateLegacyFields makes entries in v1alpha1 of an Eip's managed fields
// v1alpha2's. The Eip is then as the API server has it.
func (r *reconciler) updateLegacyFields(ctx context.Context, req request, eip *v1alpha2.Eip) error {
	if !hasLegacyFields(eip) {
		return nil
	}
	if err := r.live.Get(ctx, req.NamespacedName, eip); err != nil {
		if apierrors.IsNotFound(err) {
			return errBehind
		}
		return fmt.Errorf("reading Eip %s: %w", eip.Name, err)
	}
	type operation struct {
		Op    string `json:"op"`
		Path  string `json:"path"`
		Value string `json:"value"`
	}
	operations := []operation{{"test", "/metadata/resourceVersion", eip.ResourceVersion}}
	for i, entry := range eip.ManagedFields {
		if isLegacy(entry) {
			operations = append(operations, operation{"replace", fmt.Sprintf("/metadata/managedFields/%d/apiVersion", i), v1alpha2.GroupVersion.String()})
		}
	}
	if len(operations) == 1 {
		return nil
	}
	patch, err := json.Marshal(operations)
	if err != nil {
		return fmt.Errorf("updating the managed fields of Eip %s: %w", eip.Name, err)
	}
	if err := r.patchObject(ctx, eip, client.RawPatch(types.JSONPatchType, patch)); err != nil {
		if apierrors.IsInvalid(err) || apierrors.IsNotFound(err) { // the test failed, or it is gone
			return errors.Join(errBehind, err)
		}
		return fmt.Errorf("updating the managed fields of Eip %s: %w", eip.Name, err)
	}
	r.written[req] = eip.ResourceVersion
	return nil
}

func hasLegacyFields(eip *v1alpha2.Eip) bool {
	for _, entry := range eip.ManagedFields {
		if isLegacy(entry) {
			return true
		}
	}
	return false
}
