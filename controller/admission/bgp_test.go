package admission

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"

	admissionv1 "k8s.io/api/admission/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/webhook/admission"
)

const maxWarning = 256 // bytes, after which the API server cuts

func TestBGPWarnings(t *testing.T) {
	const (
		noConf  = "there is no BgpConf named default (yet)"
		secret  = "name that in spec.conf.passwordSecretRef"
		absent  = "spec.protocol is absent, which means bgp, and there is "
		kind    = "apiVersion: network.kubesphere.io/v1alpha2, kind: "
		peer    = "{" + kind + "BgpPeer, metadata: {name: router}, spec: {conf: {neighborAddress: 10.0.0.1}}}"
		secured = "{" + kind + "BgpPeer, metadata: {name: router}, spec: {conf: {neighborAddress: 10.0.0.1, authPassword: a}}}"
		changed = "{" + kind + "BgpPeer, metadata: {name: router}, spec: {conf: {neighborAddress: 10.0.0.1, authPassword: b}}}"
	)
	nothing, confOnly, peerOnly, all := &BGP{}, &BGP{Configured: true}, &BGP{Peered: true}, &BGP{Configured: true, Peered: true}
	eip := func(spec string) string { return "{" + kind + "Eip, metadata: {name: new}, spec: {" + spec + "}}" }
	for _, c := range []struct {
		name        string
		bgp         *BGP // nil where the API server does not say
		old, object string
		warnings    []string // part of each
	}{
		{"the BgpConf that counts", nothing, "", "{" + kind + "BgpConf, metadata: {name: default}}", nil},
		{"another BgpConf", all, "", "{" + kind + "BgpConf, metadata: {name: rack-1}}", []string{"BgpConf rack-1 has no effect: only the BgpConf named default counts"}},
		{"another BgpConf, changed", all, "{" + kind + "BgpConf, metadata: {name: rack-1}}", "{" + kind + "BgpConf, metadata: {name: rack-1}, spec: {as: 1}}", []string{"only the BgpConf named default counts"}},
		{"a BgpConf of a long name", all, "", "{" + kind + "BgpConf, metadata: {name: " + strings.Repeat("x", 253) + "}}", []string{"only the BgpConf named default counts"}},

		{"a BgpConf of the CNI", nothing, "", "{" + kind + "BgpConf, metadata: {name: calico, labels: {openelb.kubesphere.io/cni: calico}}}", nil},

		{"a BgpPeer", confOnly, "", peer, nil},
		{"a BgpPeer before the BgpConf", nothing, "", peer, []string{noConf}},
		{"a BgpPeer, and nobody knows", nil, "", peer, nil},
		{"a BgpPeer that was there before", nothing, peer, peer, nil},
		{"a BgpPeer without conf", confOnly, "", "{" + kind + "BgpPeer, metadata: {name: router}}", nil},
		{"a BgpPeer of the CNI", nothing, "", "{" + kind + "BgpPeer, metadata: {name: router, labels: {openelb.kubesphere.io/cni: calico}}, spec: {conf: {authPassword: a}}}", nil},
		{"a password", confOnly, "", secured, []string{secret}},
		{"a password that was there before", confOnly, secured, secured, nil},
		{"a new password", confOnly, peer, secured, []string{secret}},
		{"another password", confOnly, secured, changed, []string{secret}},
		{"both", peerOnly, "", secured, []string{noConf, secret}},

		{"an Eip", all, "", eip("address: 10.2.0.1"), nil},
		{"an Eip without protocol", nothing, "", eip("address: 10.2.0.1"), []string{absent + "no BgpConf named default and no BgpPeer (yet): nobody announces"}},
		{"an Eip of bgp", nothing, "", eip("address: 10.2.0.1, protocol: bgp"), []string{"spec.protocol is bgp, and there is no BgpConf named default and no BgpPeer"}},
		{"an Eip without BgpPeer", confOnly, "", eip("address: 10.2.0.1"), []string{absent + "no BgpPeer (yet)"}},
		{"an Eip without BgpConf", peerOnly, "", eip("address: 10.2.0.1"), []string{absent + "no BgpConf named default (yet)"}},
		{"an Eip, and nobody knows", nil, "", eip("address: 10.2.0.1"), nil},
		{"an Eip of layer 2", nothing, "", eip("address: 10.2.0.1, protocol: layer2, interface: eth0, allowOffSubnet: true"), nil},
		{"an Eip that was there before", nothing, eip("address: 10.2.0.1"), eip("address: 10.2.0.1, addresses: [10.2.0.2]"), nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := newHandlers(t)
			h.bgp = func(context.Context) (*BGP, error) {
				if c.old != "" {
					t.Error("the API server is asked about a change")
				}
				if c.bgp == nil {
					return nil, errors.New("the API server does not say")
				}
				return c.bgp, nil
			}
			handle := h.eip
			switch {
			case strings.Contains(c.object, "kind: BgpConf"):
				handle = h.bgpConf
			case strings.Contains(c.object, "kind: BgpPeer"):
				handle = h.bgpPeer
			}
			got := handle(t.Context(), admission.Request{AdmissionRequest: admissionv1.AdmissionRequest{
				Object: rawOf(t, c.object), OldObject: rawOf(t, c.old), RequestKind: &metav1.GroupVersionKind{Version: "v1alpha2"},
			}})
			if !got.Allowed || !slices.EqualFunc(got.Warnings, c.warnings, func(got, want string) bool { return strings.Contains(got, want) && len(got) <= maxWarning }) {
				t.Errorf("allowed %t, warned %q, want %q", got.Allowed, got.Warnings, c.warnings)
			}
		})
	}
}

// What cannot be read is let in.
func TestUnreadableBGPObjects(t *testing.T) {
	h := newHandlers(t)
	for name, handle := range map[string]admission.HandlerFunc{"BgpConf": h.bgpConf, "BgpPeer": h.bgpPeer} {
		for _, object := range []string{"", "{apiVersion: network.kubesphere.io/v1alpha2, kind: " + name + ", spec: []}"} {
			got := handle(t.Context(), admission.Request{AdmissionRequest: admissionv1.AdmissionRequest{Object: rawOf(t, object)}})
			if !got.Allowed || len(got.Warnings) > 0 {
				t.Errorf("%s %q: %+v", name, object, got)
			}
		}
	}
}

// bgpReader is an API server with one BgpConf and some BgpPeers, or none.
type bgpReader struct {
	client.Reader
	conf  *metav1.PartialObjectMetadata
	peers []metav1.PartialObjectMetadata
	err   error
}

func (r bgpReader) Get(_ context.Context, key client.ObjectKey, object client.Object, _ ...client.GetOption) error {
	if r.conf == nil || r.conf.Name != key.Name {
		return apierrors.NewNotFound(schema.GroupResource{Resource: "bgpconfs"}, key.Name)
	}
	r.conf.DeepCopyInto(object.(*metav1.PartialObjectMetadata))
	return r.err
}

func (r bgpReader) List(_ context.Context, list client.ObjectList, options ...client.ListOption) error {
	selector := (&client.ListOptions{}).ApplyOptions(options).LabelSelector
	items := &list.(*metav1.PartialObjectMetadataList).Items
	for _, peer := range r.peers {
		if selector.Matches(labels.Set(peer.Labels)) {
			*items = append(*items, peer)
		}
	}
	return r.err
}

func TestBGPIn(t *testing.T) {
	conf := func(name string, deleted *metav1.Time) *metav1.PartialObjectMetadata {
		return &metav1.PartialObjectMetadata{ObjectMeta: metav1.ObjectMeta{Name: name, DeletionTimestamp: deleted}}
	}
	now := metav1.Now()
	ofCNI := metav1.ObjectMeta{Name: "default", Labels: map[string]string{"openelb.kubesphere.io/cni": "calico"}}
	peer, peerOfCNI := metav1.PartialObjectMetadata{}, metav1.PartialObjectMetadata{ObjectMeta: ofCNI}
	for name, test := range map[string]struct {
		reader bgpReader
		want   BGP
	}{
		"nothing":         {bgpReader{}, BGP{}},
		"both":            {bgpReader{conf: conf("default", nil), peers: []metav1.PartialObjectMetadata{peerOfCNI, peer}}, BGP{Configured: true, Peered: true}},
		"the CNI's":       {bgpReader{conf: &peerOfCNI, peers: []metav1.PartialObjectMetadata{peerOfCNI}}, BGP{}},
		"another BgpConf": {bgpReader{conf: conf("other", nil)}, BGP{}},
		"one that goes":   {bgpReader{conf: conf("default", &now)}, BGP{}},
	} {
		if got, err := bgpIn(t.Context(), test.reader); err != nil || *got != test.want {
			t.Errorf("%s: %+v, %v", name, got, err)
		}
	}
	for _, reader := range []bgpReader{{conf: conf("default", nil), err: errors.New("failed")}, {err: errors.New("failed")}} {
		if got, err := bgpIn(t.Context(), reader); err == nil {
			t.Errorf("it cannot be read, and is %+v", got)
		}
	}
}
