package v1alpha1

import (
	"fmt"

	"k8s.io/apimachinery/pkg/api/equality"
	"sigs.k8s.io/controller-runtime/pkg/conversion"

	"github.com/fairway-lb/fairway/api/v1alpha2"
)

// peerFields are the fields of a v1alpha1 BgpPeer that v1alpha2 lacks.
type peerFields struct {
	UsingPortForward bool `json:"usingPortForward,omitempty"`
}

// ConvertTo makes the v1alpha2 form.
func (p *BgpPeer) ConvertTo(hub conversion.Hub) error {
	to, ok := hub.(*v1alpha2.BgpPeer)
	if !ok {
		return fmt.Errorf("converting a BgpPeer to %T", hub)
	}
	to.ObjectMeta = *p.ObjectMeta.DeepCopy()
	spec, err := restore[v1alpha2.BgpPeerSpec](&to.ObjectMeta, AnnotationV1alpha2Spec)
	if err != nil {
		return err
	}
	to.Spec = spec
	setConfig(&to.Spec, p.Spec.Config)
	setAddPaths(&to.Spec, p.Spec.AddPaths)
	setTransport(&to.Spec, p.Spec.Transport)
	to.Status = *p.Status.DeepCopy()
	delete(to.Annotations, AnnotationV1alpha1Spec)
	return keep(&to.ObjectMeta, AnnotationV1alpha1Spec, peerFields{UsingPortForward: p.Spec.UsingPortForward})
}

// ConvertFrom makes the v1alpha1 form.
func (p *BgpPeer) ConvertFrom(hub conversion.Hub) error {
	from, ok := hub.(*v1alpha2.BgpPeer)
	if !ok {
		return fmt.Errorf("converting %T to a BgpPeer", hub)
	}
	p.ObjectMeta = *from.ObjectMeta.DeepCopy()
	// What a user writes there is not of our making, and may say anything.
	legacy, err := restore[peerFields](&p.ObjectMeta, AnnotationV1alpha1Spec)
	if err != nil {
		legacy = peerFields{}
	}
	delete(p.Annotations, AnnotationV1alpha2Spec)
	fields := from.Spec.DeepCopy()
	p.Spec = BgpPeerSpec{
		Config:           takeConfig(fields),
		AddPaths:         takeAddPaths(fields),
		Transport:        takeTransport(fields),
		UsingPortForward: legacy.UsingPortForward,
	}
	p.Status = *from.Status.DeepCopy()
	return keep(&p.ObjectMeta, AnnotationV1alpha2Spec, fields)
}

// takeConfig, takeAddPaths and takeTransport move what v1alpha1 has a field
// for out of a v1alpha2 spec; setConfig, setAddPaths and setTransport put it
// back. A part of a spec that is there and empty is not the same as none.

func takeConfig(spec *v1alpha2.BgpPeerSpec) *NeighborConfig {
	conf := spec.Conf
	if conf == nil {
		return nil
	}
	config := &NeighborConfig{NeighborAddress: conf.NeighborAddress, PeerAS: conf.PeerAS}
	conf.NeighborAddress, conf.PeerAS = "", 0
	if *conf == (v1alpha2.PeerConf{}) {
		spec.Conf = nil
	}
	return config
}

func setConfig(spec *v1alpha2.BgpPeerSpec, config *NeighborConfig) {
	if config == nil {
		if spec.Conf != nil {
			spec.Conf.NeighborAddress, spec.Conf.PeerAS = "", 0
		}
		return
	}
	if spec.Conf == nil {
		spec.Conf = &v1alpha2.PeerConf{}
	}
	spec.Conf.NeighborAddress, spec.Conf.PeerAS = config.NeighborAddress, config.PeerAS
}

// takeAddPaths takes the number of the first address family, and the family
// itself if it says nothing else and is the only one.
func takeAddPaths(spec *v1alpha2.BgpPeerSpec) *AddPaths {
	if len(spec.AfiSafis) == 0 {
		return nil
	}
	first := &spec.AfiSafis[0]
	if first.AddPaths == nil || first.AddPaths.Config == nil {
		return nil
	}
	paths := &AddPaths{SendMax: first.AddPaths.Config.SendMax}
	first.AddPaths.Config.SendMax = 0
	bare := v1alpha2.AfiSafi{AddPaths: &v1alpha2.AddPaths{Config: &v1alpha2.AddPathsConfig{}}}
	if len(spec.AfiSafis) == 1 && equality.Semantic.DeepEqual(*first, bare) {
		spec.AfiSafis = nil
	}
	return paths
}

func setAddPaths(spec *v1alpha2.BgpPeerSpec, paths *AddPaths) {
	if paths == nil {
		if len(spec.AfiSafis) > 0 && spec.AfiSafis[0].AddPaths != nil && spec.AfiSafis[0].AddPaths.Config != nil {
			spec.AfiSafis[0].AddPaths.Config.SendMax = 0
		}
		return
	}
	if len(spec.AfiSafis) == 0 {
		spec.AfiSafis = []v1alpha2.AfiSafi{{}}
	}
	first := &spec.AfiSafis[0]
	if first.AddPaths == nil {
		first.AddPaths = &v1alpha2.AddPaths{}
	}
	if first.AddPaths.Config == nil {
		first.AddPaths.Config = &v1alpha2.AddPathsConfig{}
	}
	first.AddPaths.Config.SendMax = paths.SendMax
}

func takeTransport(spec *v1alpha2.BgpPeerSpec) *Transport {
	from := spec.Transport
	if from == nil {
		return nil
	}
	transport := &Transport{PassiveMode: from.PassiveMode, RemotePort: from.RemotePort}
	from.PassiveMode, from.RemotePort = false, 0
	if *from == (v1alpha2.Transport{}) {
		spec.Transport = nil
	}
	return transport
}

func setTransport(spec *v1alpha2.BgpPeerSpec, transport *Transport) {
	if transport == nil {
		if spec.Transport != nil {
			spec.Transport.PassiveMode, spec.Transport.RemotePort = false, 0
		}
		return
	}
	if spec.Transport == nil {
		spec.Transport = &v1alpha2.Transport{}
	}
	spec.Transport.PassiveMode, spec.Transport.RemotePort = transport.PassiveMode, transport.RemotePort
}
