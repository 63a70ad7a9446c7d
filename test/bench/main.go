// Command bench measures the controller against a real API server: how fast
// thousands of Services get their addresses, what that costs in writes and
// memory, and what one change costs when there are many Services. It prints
// tables. It needs root and the programs in the folder that FAIRWAY_BIN
// names; `make bench` builds them.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/go-logr/logr"
	ctrllog "sigs.k8s.io/controller-runtime/pkg/log"
)

// limit bounds everything; on two cores it takes ten to fifteen minutes, most
// of which the API server takes to create thousands of Services.
const limit = 30 * time.Minute

// sizes are how many Services the measurements are made with.
type sizes struct {
	burst   int // created at once
	cached  int // in all, while memory and edits are measured
	single  int // created one after the other
	waiting int // that wait for an address of a full pool
}

func main() {
	var n sizes
	flag.IntVar(&n.burst, "burst", 2000, "Services that are created at once")
	flag.IntVar(&n.cached, "cached", 10000, "Services with an address while memory and edits are measured")
	flag.IntVar(&n.single, "single", 100, "Services that are created one after the other")
	flag.IntVar(&n.waiting, "waiting", 500, "Services that wait for an address of a full pool")
	flag.Parse()
	ctrllog.SetLogger(logr.Discard()) // the client warns if it has none
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, n); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// run makes the lab, measures, prints, and removes the lab again.
func run(ctx context.Context, n sizes) (err error) {
	if os.Getuid() != 0 {
		return errors.New("the benchmark makes network namespaces: run it as root")
	}
	ctx, cancel := context.WithTimeoutCause(ctx, limit, fmt.Errorf("it took longer than %v", limit))
	defer cancel()
	b, err := newBench(ctx, n)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, b.close()) }()
	err = b.measure()
	return errors.Join(err, b.report.write(os.Stdout)) // what was measured before an error, too
}
