package bfd

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// prioritize has the kernel run the calling thread as soon as it can run. A packet
// that is late by a few intervals makes the neighbor cut the path, and a node with
// busy cores makes threads wait for that long: the fewer shares of CPU a Pod has
// against others, the longer. Real-time scheduling knows no shares; where it is
// not allowed, the nice value at least puts this thread before the others of the
// Pod. Both need CAP_SYS_NICE.
//
// The lowest real-time priority is enough to be before all that is not real-time.
// The kernel keeps 5 % of the time for the others whatever happens
// (sched_rt_runtime_us), and threads that this one might start inherit nothing.
func prioritize() error {
	err := unix.SchedSetAttr(0, &unix.SchedAttr{
		Size:     unix.SizeofSchedAttr,
		Policy:   unix.SCHED_RR,
		Flags:    unix.SCHED_FLAG_RESET_ON_FORK,
		Priority: 1,
	}, 0)
	if err == nil {
		return nil
	}
	if niceErr := unix.Setpriority(unix.PRIO_PROCESS, 0, -20); niceErr != nil {
		return fmt.Errorf("set real-time scheduling: %w; set nice value -20: %w", err, niceErr)
	}
	return nil
}
