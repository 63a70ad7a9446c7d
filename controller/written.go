package controller

import "k8s.io/apimachinery/pkg/util/resourceversion"

// written remembers which version of an object this process wrote last,
// until the cache shows that version or a later one. Decisions on an older
// one would only be refused by the API server.
type written map[request]string

// stale tells whether a version is older than what this process wrote. It
// says so once for each write: the reader is to come back, and should the
// version never show up, go on with what there is.
func (w written) stale(req request, version string) bool {
	last, ok := w[req]
	if !ok {
		return false
	}
	delete(w, req)
	order, err := resourceversion.CompareResourceVersion(version, last)
	return err == nil && order < 0
}
