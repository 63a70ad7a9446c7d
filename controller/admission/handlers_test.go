package admission

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/go-logr/logr"
	admissionv1 "k8s.io/api/admission/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/webhook/admission"
	"sigs.k8s.io/yaml"
)

func newHandlers(t *testing.T) *handlers {
	t.Helper()
	scheme, err := newScheme()
	if err != nil {
		t.Fatal(err)
	}
	return &handlers{
		decoder: admission.NewDecoder(scheme),
		cluster: func(context.Context) (*Cluster, error) {
			cluster := testCluster(t)
			cluster.Services = nil // they are asked for when they are needed
			return cluster, nil
		},
		services: func(context.Context) ([]corev1.Service, error) { return testCluster(t).Services, nil },
		bgp:      func(context.Context) (*BGP, error) { return &BGP{Configured: true, Peered: true}, nil },
		log:      logr.Discard(),
	}
}

// rawOf reads YAML as the API server sends it.
func rawOf(t *testing.T, text string) runtime.RawExtension {
	t.Helper()
	if text == "" {
		return runtime.RawExtension{}
	}
	raw, err := yaml.YAMLToJSON([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return runtime.RawExtension{Raw: raw}
}

func TestHandlers(t *testing.T) {
	const eipKind, svcKind = "apiVersion: network.kubesphere.io/v1alpha2, kind: Eip, ", "apiVersion: v1, kind: Service, "
	for _, c := range []struct {
		name        string
		service     bool
		old, object string
		version     string // of the request; v1alpha2 if empty
		denial      string
		warning     string
	}{
		{name: "new Eip", object: "{" + eipKind + "metadata: {name: new}, spec: {address: 10.1.0.6}}", denial: "eip address overlap with a"},
		{name: "changed Eip", old: "{" + eipKind + "metadata: {name: pool}, spec: {address: 10.0.0.0/24}}", object: "{" + eipKind + "metadata: {name: pool}, spec: {address: 10.0.0.0/24, exclude: [10.0.0.5]}}", denial: "which Service dev/api holds"},
		{name: "warned", object: "{" + eipKind + "metadata: {name: new}, spec: {address: 10.2.0.1, exclusive: true}}", warning: "spec.exclusive"},
		{name: "v1alpha1 of layer2", version: "v1alpha1", object: "{" + eipKind + "metadata: {name: new}, spec: {address: 10.2.0.1, protocol: layer2}}", denial: denialInterface, warning: "v1alpha1 has no field for the interface"},
		{name: "no Eip", object: ""},
		{name: "not an Eip", object: "{" + eipKind + "spec: {address: {}}}"},
		{name: "old not an Eip", old: "{" + eipKind + "spec: {address: {}}}", object: "{" + eipKind + "metadata: {name: new}, spec: {address: 10.1.0.6}}"},
		{name: "Service", service: true, object: "{" + svcKind + "metadata: {annotations: {eip.openelb.kubesphere.io/v1alpha2: pool}}, spec: {type: LoadBalancer}}", warning: "add annotation"},
		{name: "no Service", service: true, object: ""},
		{name: "not a Service", service: true, object: "{" + svcKind + "spec: {type: {}}}"},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := newHandlers(t)
			handle := h.eip
			if c.service {
				handle = h.service
			}
			if c.version == "" {
				c.version = "v1alpha2"
			}
			got := handle(t.Context(), admission.Request{AdmissionRequest: admissionv1.AdmissionRequest{
				Object: rawOf(t, c.object), OldObject: rawOf(t, c.old), RequestKind: &metav1.GroupVersionKind{Version: c.version},
			}})
			if got.Allowed != (c.denial == "") || !strings.Contains(got.Result.Message, c.denial) {
				t.Errorf("allowed %v, %q; want %q", got.Allowed, got.Result.Message, c.denial)
			}
			if warned := strings.Join(got.Warnings, "\n"); !strings.Contains(warned, c.warning) || (c.warning == "") != (warned == "") {
				t.Errorf("warned %q, want %q", warned, c.warning)
			}
		})
	}
}

// A cluster that cannot be read, or not yet, is no reason to refuse an object.
func TestHandlersWithoutCluster(t *testing.T) {
	h := newHandlers(t)
	for name, cluster := range map[string]func(context.Context) (*Cluster, error){
		"failing": func(context.Context) (*Cluster, error) { return nil, errors.New("failed") },
		"empty":   func(context.Context) (*Cluster, error) { return nil, nil },
	} {
		h.cluster = cluster
		for kind, handle := range map[string]admission.HandlerFunc{"Eip": h.eip, "Service": h.service} {
			object := rawOf(t, "{apiVersion: v1, kind: Service, metadata: {annotations: {lb.kubesphere.io/v1alpha1: openelb, eip.openelb.kubesphere.io/v1alpha2: none}}, spec: {type: LoadBalancer}}")
			if kind == "Eip" {
				object = rawOf(t, "{apiVersion: network.kubesphere.io/v1alpha2, kind: Eip, spec: {address: 10.0.0.1}}")
			}
			got := handle(t.Context(), admission.Request{AdmissionRequest: admissionv1.AdmissionRequest{Object: object}})
			if !got.Allowed || len(got.Warnings) > 0 {
				text, err := json.Marshal(got)
				t.Errorf("%s with a %s cluster: %s (%v)", kind, name, text, err)
			}
		}
	}
}
