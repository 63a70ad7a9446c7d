package certificate

import (
	"encoding/base64"
	"fmt"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// trust returns a copy of an object in which every webhook trusts a CA (PEM),
// and whether it differs. The object is a ValidatingWebhookConfiguration or a
// CustomResourceDefinition; of one that is not configured to call anybody,
// nothing changes.
func trust(object *unstructured.Unstructured, ca []byte) (trusting *unstructured.Unstructured, changed bool, err error) {
	trusting = object.DeepCopy()
	bundle := base64.StdEncoding.EncodeToString(ca)
	if webhook, found, err := unstructured.NestedMap(trusting.Object, "spec", "conversion", "webhook"); err == nil && found {
		if changed, err = setBundle(webhook, bundle); err != nil {
			return nil, false, err
		}
		if err := unstructured.SetNestedMap(trusting.Object, webhook, "spec", "conversion", "webhook"); err != nil {
			return nil, false, fmt.Errorf("setting spec.conversion.webhook: %w", err)
		}
		return trusting, changed, nil
	}
	webhooks, found, err := unstructured.NestedSlice(trusting.Object, "webhooks")
	if err != nil || !found {
		return trusting, false, nil
	}
	for i := range webhooks {
		webhook, ok := webhooks[i].(map[string]any)
		if !ok {
			return nil, false, fmt.Errorf("webhooks[%d] is a %T", i, webhooks[i])
		}
		one, err := setBundle(webhook, bundle)
		if err != nil {
			return nil, false, err
		}
		changed = changed || one
	}
	if err := unstructured.SetNestedSlice(trusting.Object, webhooks, "webhooks"); err != nil {
		return nil, false, fmt.Errorf("setting webhooks: %w", err)
	}
	return trusting, changed, nil
}

func setBundle(webhook map[string]any, bundle string) (changed bool, err error) {
	have, _, err := unstructured.NestedString(webhook, "clientConfig", "caBundle")
	if err == nil && have == bundle {
		return false, nil
	}
	if err := unstructured.SetNestedField(webhook, bundle, "clientConfig", "caBundle"); err != nil {
		return false, fmt.Errorf("setting clientConfig.caBundle: %w", err)
	}
	return true, nil
}
