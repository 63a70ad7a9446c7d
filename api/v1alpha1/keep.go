package v1alpha1

import (
	"encoding/json"
	"fmt"

	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

const (
	// AnnotationV1alpha2Spec in the v1alpha1 form of an object is the JSON of
	// those fields of its v1alpha2 spec that v1alpha1 lacks.
	AnnotationV1alpha2Spec = "network.kubesphere.io/v1alpha2-spec"
	// AnnotationV1alpha1Spec in the v1alpha2 form, which is the one stored, is
	// the JSON of those fields of its v1alpha1 spec that v1alpha2 lacks.
	AnnotationV1alpha1Spec = "network.kubesphere.io/v1alpha1-spec"
)

// tooLarge stands in for JSON that does not fit into the annotations of an
// object. Such an object can be read and not be written.
const tooLarge = "too large"

// keep puts the fields into an annotation, none if all are absent.
func keep(meta *metav1.ObjectMeta, key string, fields any) error {
	text, err := json.Marshal(fields)
	if err != nil {
		return fmt.Errorf("keeping fields in annotation %s: %w", key, err)
	}
	if string(text) == "{}" {
		return nil
	}
	value, size := string(text), len(key)+len(text)
	for k, v := range meta.Annotations {
		size += len(k) + len(v)
	}
	// With more, the API server would refuse to show the object, and any list
	// that it is in.
	if size > apivalidation.TotalAnnotationSizeLimitB {
		value = tooLarge
	}
	if meta.Annotations == nil {
		meta.Annotations = map[string]string{}
	}
	meta.Annotations[key] = value
	return nil
}

// restore takes an annotation away and returns the fields in it; none if there
// are none that can be read. The error is for an object that lost its fields
// because they did not fit.
func restore[T any](meta *metav1.ObjectMeta, key string) (fields T, err error) {
	text, found := meta.Annotations[key]
	if !found {
		return fields, nil
	}
	delete(meta.Annotations, key)
	if text == tooLarge {
		return fields, fmt.Errorf("the object has more fields than fit into annotation %s: change it in v1alpha2", key)
	}
	var read T
	if json.Unmarshal([]byte(text), &read) != nil {
		return fields, nil // not our writing
	}
	return read, nil
}
