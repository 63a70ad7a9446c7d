package v1alpha1

import (
	"fmt"

	"sigs.k8s.io/controller-runtime/pkg/conversion"

	"github.com/fairway-lb/fairway/api/v1alpha2"
)

// eipFields are the fields of a v1alpha2 Eip that v1alpha1 lacks; those that
// it has are zero.
type eipFields struct {
	v1alpha2.EipSpec
	Address string `json:"address,omitempty"` // not written, which EipSpec's own would be
}

// ConvertTo makes the v1alpha2 form.
func (e *Eip) ConvertTo(hub conversion.Hub) error {
	to, ok := hub.(*v1alpha2.Eip)
	if !ok {
		return fmt.Errorf("converting an Eip to %T", hub)
	}
	to.ObjectMeta = *e.ObjectMeta.DeepCopy()
	fields, err := restore[eipFields](&to.ObjectMeta, AnnotationV1alpha2Spec)
	if err != nil {
		return err
	}
	to.Spec = fields.EipSpec
	to.Spec.Address = string(e.Spec.Address)
	to.Spec.Protocol = e.Spec.Protocol
	to.Spec.Disable = e.Spec.Disable
	to.Spec.UsingKnownIPs = e.Spec.UsingKnownIPs
	to.Status = *e.Status.DeepCopy()
	return nil
}

// ConvertFrom makes the v1alpha1 form.
func (e *Eip) ConvertFrom(hub conversion.Hub) error {
	from, ok := hub.(*v1alpha2.Eip)
	if !ok {
		return fmt.Errorf("converting %T to an Eip", hub)
	}
	e.ObjectMeta = *from.ObjectMeta.DeepCopy()
	delete(e.Annotations, AnnotationV1alpha2Spec)
	e.Spec = EipSpec{
		Address:       v1alpha2.PoolAddress(from.Spec.Address),
		Protocol:      from.Spec.Protocol,
		Disable:       from.Spec.Disable,
		UsingKnownIPs: from.Spec.UsingKnownIPs,
	}
	e.Status = *from.Status.DeepCopy()
	fields := eipFields{EipSpec: from.Spec}
	fields.Protocol, fields.Disable, fields.UsingKnownIPs = "", false, false
	return keep(&e.ObjectMeta, AnnotationV1alpha2Spec, fields)
}
