// Package note writes Kubernetes events, so that each text reaches the user.
package note

import (
	"fmt"
	"hash/fnv"
	"strings"

	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/tools/events"
)

// maxLength is the API server's limit on the text of an event, in bytes.
const maxLength = 1024

// Write writes an event on an object, its text clipped to what an event may
// carry. For client-go, events on an object whose type, reason and action are
// the same repeat the first for six minutes, whatever they say, and only the
// first text is kept. So the action gets a digest of the text.
func Write(recorder events.EventRecorder, object runtime.Object, eventType, reason, action, text string) {
	text = Clip(text)
	digest := fnv.New32a()
	_, _ = digest.Write([]byte(text)) // never fails
	recorder.Eventf(object, nil, eventType, reason, fmt.Sprintf("%s-%08x", action, digest.Sum32()), "%s", text)
}

// Clip shortens a text to what an event may carry.
func Clip(text string) string {
	if len(text) <= maxLength {
		return text
	}
	const ellipsis = "..."
	return strings.ToValidUTF8(text[:maxLength-len(ellipsis)], "") + ellipsis
}
