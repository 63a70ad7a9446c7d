package e2e

import (
	"fmt"
	"strings"

	"github.com/fairway-lb/fairway/api/v1alpha2"
)

// document is one of Fairway's own objects as a document; spec are the lines of
// its spec.
func document(kind, name string, spec ...string) string {
	return fmt.Sprintf(`---
apiVersion: network.kubesphere.io/v1alpha2
kind: %s
metadata:
  name: %s
spec:
%s`, kind, name, indent("  ", spec))
}

// eip is a layer2 pool on eth33 as a document; more are further lines of its
// spec.
func eip(name, address string, more ...string) string {
	return document("Eip", name, append([]string{"address: " + address, "protocol: layer2", "interface: eth33"}, more...)...)
}

// loadBalancer is a Service of type LoadBalancer with port 80 that selects
// app=<app> and is opted in; more are further lines of its annotations.
func loadBalancer(name, app string, annotations ...string) string {
	return fmt.Sprintf(`---
apiVersion: v1
kind: Service
metadata:
  name: %s
  namespace: dev
  annotations:
    lb.kubesphere.io/v1alpha1: openelb
%sspec:
  selector:
    app: %s
  type: LoadBalancer
  ports:
  - port: 80
    targetPort: 80
`, name, indent("    ", annotations), app)
}

// fromPool is the annotation that names a Service's pool.
func fromPool(name string) string {
	return "eip.openelb.kubesphere.io/v1alpha2: " + name
}

// wantsAddress is the annotation that asks for an address.
func wantsAddress(ip string) string {
	return fmt.Sprintf("eip.openelb.kubesphere.io/v1alpha1: %q", ip)
}

// sharing is the annotation with the key of sharing.
func sharing(key string) string { return v1alpha2.AnnotationShare + ": " + key }

// onPort replaces the port of a document.
func onPort(document string, port int) string {
	return strings.Replace(document, "- port: 80", fmt.Sprintf("- port: %d", port), 1)
}

// with adds lines to the spec of a Service's document.
func with(document string, lines ...string) string {
	return document + indent("  ", lines)
}

func indent(by string, lines []string) string {
	var b strings.Builder
	for _, line := range lines {
		b.WriteString(by + line + "\n")
	}
	return b.String()
}
