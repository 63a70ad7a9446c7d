package admission

import (
	"fmt"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/fairway-lb/fairway/api/v1alpha2"
)

// BGP is what there is to announce addresses by BGP with.
type BGP struct {
	// Configured tells whether there is a BgpConf that counts, and Peered
	// whether there is a BgpPeer. Those that are left to the CNI are none.
	Configured, Peered bool
}

// ReviewBgpConf says what of a BgpConf will not do what it seems to. One is
// never refused.
func ReviewBgpConf(conf *v1alpha2.BgpConf) []string {
	if conf.Name == v1alpha2.BgpConfName || leftToCNI(conf) {
		return nil
	}
	return []string{fmt.Sprintf("BgpConf %.80s has no effect: only the BgpConf named %s counts", conf.Name, v1alpha2.BgpConfName)}
}

// ReviewBgpPeer does so for a BgpPeer that is created (old is nil) or changed.
// Without bgp, which is needed for a new one, nothing is said about BgpConfs.
func ReviewBgpPeer(old, peer *v1alpha2.BgpPeer, bgp *BGP) (warnings []string) {
	if leftToCNI(peer) {
		return nil
	}
	if old == nil && bgp != nil && !bgp.Configured {
		warnings = append(warnings, fmt.Sprintf("there is no BgpConf named %s (yet): no session is opened before", v1alpha2.BgpConfName))
	}
	if password := passwordOf(peer); password != "" && (old == nil || password != passwordOf(old)) {
		warnings = append(warnings, "everybody who may read BgpPeers can read spec.conf.authPassword: put the password into a Secret in Fairway's namespace and name that in spec.conf.passwordSecretRef")
	}
	return warnings
}

// leftToCNI tells whether speakers do not act on a BgpConf or BgpPeer, because
// the network plugin does.
func leftToCNI(object metav1.Object) bool {
	_, labelled := object.GetLabels()[v1alpha2.LabelCNI]
	return labelled
}

func passwordOf(peer *v1alpha2.BgpPeer) string {
	if peer.Spec.Conf == nil {
		return ""
	}
	return peer.Spec.Conf.AuthPassword
}

// notAnnounced warns of a new pool whose addresses nobody announces for want of
// what BGP takes. OpenELB's users know that bgp is what no protocol means, and
// others may not.
func notAnnounced(eip *v1alpha2.Eip, bgp *BGP) []string {
	if bgp == nil || protocolOf(eip) != v1alpha2.ProtocolBGP {
		return nil
	}
	var missing []string
	if !bgp.Configured {
		missing = append(missing, "no BgpConf named "+v1alpha2.BgpConfName)
	}
	if !bgp.Peered {
		missing = append(missing, "no BgpPeer")
	}
	if len(missing) == 0 {
		return nil
	}
	protocol := "spec.protocol is bgp"
	if eip.Spec.Protocol == "" {
		protocol = "spec.protocol is absent, which means bgp"
	}
	return []string{fmt.Sprintf("%s, and there is %s (yet): nobody announces the pool's addresses before", protocol, strings.Join(missing, " and "))}
}
