package admission

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"github.com/fairway-lb/fairway/api/v1alpha2"
)

// serviceKeys are the annotations of Services that Fairway reads, apart from
// MetalLB's.
func serviceKeys() []string {
	return []string{
		v1alpha2.AnnotationLoadBalancer, v1alpha2.AnnotationPool, v1alpha2.AnnotationAddress, v1alpha2.AnnotationProtocol, v1alpha2.AnnotationShare,
		v1alpha2.LegacyAnnotationPool, v1alpha2.LegacyAnnotationAddress, v1alpha2.LegacyAnnotationProtocol,
	}
}

// Domains of keys that meant something to OpenELB and mean nothing to Fairway.
const (
	layer2Domain       = "layer2.openelb.kubesphere.io"
	legacyLayer2Domain = "layer2.porter.kubesphere.io"
	nodeProxyDomain    = "node-proxy.openelb.kubesphere.io"
)

// unknownKeys warns of annotations in our domains that have no effect.
func unknownKeys(svc *corev1.Service) []string {
	var warnings []string
	known := serviceKeys()
	for _, key := range slices.Sorted(maps.Keys(svc.Annotations)) {
		domain, _, _ := strings.Cut(key, "/")
		switch {
		case slices.Contains(known, key) || !isOurDomain(domain):
		case domain == layer2Domain || domain == legacyLayer2Domain:
			warnings = append(warnings, fmt.Sprintf("annotation %s has no effect: Fairway chooses the node that announces an address, and spec.interface of the Eip its interface", key))
		case domain == nodeProxyDomain:
			warnings = append(warnings, fmt.Sprintf("annotation %s has no effect: Fairway has no node proxy, the Service gets an address of an Eip", key))
		default:
			warning := fmt.Sprintf("annotation %.120s has no effect: Fairway knows no such key", key)
			if near := nearest(key, known); near != "" {
				warning += ", did you mean " + near + "?"
			}
			warnings = append(warnings, warning)
		}
	}
	return warnings
}

func isOurDomain(domain string) bool {
	switch domain {
	case "lb.kubesphere.io", "network.kubesphere.io", "openelb.kubesphere.io", "porter.kubesphere.io":
		return true
	}
	return strings.HasSuffix(domain, ".openelb.kubesphere.io") || strings.HasSuffix(domain, ".porter.kubesphere.io")
}

// typos is how many letters may be wrong in what is taken for a misspelling.
const typos = 3

// nearest returns the key that a misspelt one is taken for, "" if none.
func nearest(misspelt string, keys []string) string {
	best, least := "", typos+1
	for _, key := range keys {
		if max(len(misspelt), len(key))-min(len(misspelt), len(key)) > typos {
			continue // a quick no to keys of any length
		}
		if d := distance(misspelt, key); d < least {
			best, least = key, d
		}
	}
	return best
}

// distance is the number of bytes to insert, delete or replace in a to get b
// (Levenshtein).
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			replace := diagonal
			if a[i] != b[j] {
				replace++
			}
			diagonal = row[j+1]
			row[j+1] = min(replace, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
