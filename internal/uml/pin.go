package uml

import (
	"fmt"
	"math/rand/v2"

	"golang.org/x/sys/unix"
)

// pin has what the calling thread starts run on one of its processors, any, until
// unpin is called. A guest has one processor, but its kernel and the programs in
// it are processes here that take turns with each system call: on two processors,
// each turn has to wake the other one, which takes twice as long.
func pin() (unpin func() error, err error) {
	var all, one unix.CPUSet
	if err := unix.SchedGetaffinity(0, &all); err != nil {
		return nil, fmt.Errorf("find the processors: %w", err)
	}
	skip := rand.IntN(all.Count())
	for cpu := 0; ; cpu++ {
		if !all.IsSet(cpu) {
			continue
		}
		if skip--; skip < 0 {
			one.Set(cpu)
			break
		}
	}
	if err := unix.SchedSetaffinity(0, &one); err != nil {
		return nil, fmt.Errorf("choose a processor: %w", err)
	}
	return func() error { return unix.SchedSetaffinity(0, &all) }, nil
}
