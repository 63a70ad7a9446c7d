package v1alpha1

import (
	"fmt"

	"sigs.k8s.io/controller-runtime/pkg/conversion"

	"github.com/fairway-lb/fairway/api/v1alpha2"
)

// ConvertTo makes the v1alpha2 form.
func (c *BgpConf) ConvertTo(hub conversion.Hub) error {
	to, ok := hub.(*v1alpha2.BgpConf)
	if !ok {
		return fmt.Errorf("converting a BgpConf to %T", hub)
	}
	to.ObjectMeta = *c.ObjectMeta.DeepCopy()
	spec, err := restore[v1alpha2.BgpConfSpec](&to.ObjectMeta, AnnotationV1alpha2Spec)
	if err != nil {
		return err
	}
	to.Spec = spec
	to.Spec.AS = c.Spec.AS
	to.Spec.RouterID = c.Spec.RouterID
	to.Spec.ListenPort = c.Spec.Port
	to.Status = *c.Status.DeepCopy()
	return nil
}

// ConvertFrom makes the v1alpha1 form.
func (c *BgpConf) ConvertFrom(hub conversion.Hub) error {
	from, ok := hub.(*v1alpha2.BgpConf)
	if !ok {
		return fmt.Errorf("converting %T to a BgpConf", hub)
	}
	c.ObjectMeta = *from.ObjectMeta.DeepCopy()
	delete(c.Annotations, AnnotationV1alpha2Spec)
	c.Spec = BgpConfSpec{AS: from.Spec.AS, RouterID: from.Spec.RouterID, Port: from.Spec.ListenPort}
	c.Status = *from.Status.DeepCopy()
	fields := from.Spec
	fields.AS, fields.RouterID, fields.ListenPort = 0, "", 0
	return keep(&c.ObjectMeta, AnnotationV1alpha2Spec, fields)
}
