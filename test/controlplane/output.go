package main

import (
	"fmt"
	"io"
	"os"
	"runtime/debug"
	"syscall"
	"time"

	"k8s.io/klog/v2"
)

// progress tells a human what has been reached, with seconds since the start.
type progress struct {
	out   io.Writer
	start time.Time
}

func (p *progress) say(format string, args ...any) {
	fmt.Fprintf(p.out, "controlplane: %5.1f s  %s\n", time.Since(p.start).Seconds(), fmt.Sprintf(format, args...))
}
