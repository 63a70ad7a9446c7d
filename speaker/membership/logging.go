package membership

import (
	"bytes"
	"time"

	"github.com/go-logr/logr"
	"golang.org/x/time/rate"
)

// keyMismatchInterval is how often it is logged that somebody gossips with
// another key: it may be tried many times a second.
const keyMismatchInterval = time.Minute

// logWriter writes memberlist's log lines to a logr.Logger: errors and
// warnings, which are mostly a peer that just went away, at V(1), the rest at
// V(2). What an operator must see is logged from events instead; but that the
// keys differ is in the log lines only.
type logWriter struct {
	log         logr.Logger
	keyMismatch *rate.Limiter
}

func newLogWriter(log logr.Logger) *logWriter {
	return &logWriter{log: log, keyMismatch: rate.NewLimiter(rate.Every(keyMismatchInterval), 1)}
}

// Write takes one line, such as "[WARN] memberlist: text\n".
func (w *logWriter) Write(line []byte) (int, error) {
	n := len(line)
	line = bytes.TrimSpace(line)
	level := 1
	if bytes.HasPrefix(line, []byte("[DEBUG]")) || bytes.HasPrefix(line, []byte("[INFO]")) {
		level = 2
	}
	if isKeyMismatch(line) && w.keyMismatch.Allow() {
		w.log.Info("Refused gossip of a process with another key, or none; all speakers must have the same key",
			"detail", text(line))
		return n, nil
	}
	if log := w.log.V(level); log.Enabled() {
		log.Info(text(line))
	}
	return n, nil
}

// isKeyMismatch knows what memberlist v0.7.0 says when the other side has
// another key or none. A test notices if that changes.
func isKeyMismatch(line []byte) bool {
	return bytes.Contains(line, []byte("could decrypt the message")) ||
		bytes.Contains(line, []byte("unsupported encryption version")) ||
		bytes.Contains(line, []byte("remote state is not encrypted"))
}

// text returns a line without its level and the word memberlist.
func text(line []byte) string {
	if _, rest, ok := bytes.Cut(line, []byte("] ")); ok {
		line = rest
	}
	return string(bytes.TrimPrefix(line, []byte("memberlist: ")))
}
