package note

import (
	"fmt"
	"strings"
	"testing"
	"unicode/utf8"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
)

// recorder keeps the last event.
type recorder struct{ action, text string }

func (r *recorder) Eventf(_, _ runtime.Object, _, _, action, format string, args ...any) {
	r.action, r.text = action, fmt.Sprintf(format, args...)
}

func TestWrite(t *testing.T) {
	write := func(text string) recorder {
		var r recorder
		Write(&r, &corev1.Service{}, corev1.EventTypeNormal, "AssignIP", "Assign", text)
		return r
	}
	first := write("100% of 10.0.0.1")
	if first.text != "100% of 10.0.0.1" || !strings.HasPrefix(first.action, "Assign-") {
		t.Errorf("wrote %+v", first)
	}
	if other := write("10.0.0.2"); other.action == first.action {
		t.Errorf("two texts have one action, %s: the second would not be shown", other.action)
	}
	if again := write("100% of 10.0.0.1"); again != first {
		t.Errorf("one text is written as %+v and as %+v: it would be shown twice", first, again)
	}
	long := write(strings.Repeat("ü", maxLength))
	if len(long.text) > maxLength || !utf8.ValidString(long.text) || !strings.HasSuffix(long.text, "ü...") {
		t.Errorf("a long text is clipped to %d bytes that end in %q", len(long.text), long.text[len(long.text)-8:])
	}
}
