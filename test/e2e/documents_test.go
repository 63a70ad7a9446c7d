package e2e

import (
	"fmt"
	"strings"
)

// eip is a layer2 pool on eth33 as a document; more are further lines of its
// spec.
func eip(name, address string, more ...string) string {
	return fmt.Sprintf(`---
apiVersion: network.kubesphere.io/v1alpha2
kind: Eip
metadata:
  name: %s
spec:
  address: %s
  protocol: layer2
  interface: eth33
%s`, name, address, indent("  ", more))
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

func indent(by string, lines []string) string {
	var b strings.Builder
	for _, line := range lines {
		b.WriteString(by + line + "\n")
	}
	return b.String()
}
