// Command bench measures Fairway against a real API server and real routers.
// Of the controller: how fast thousands of Services get their addresses, what
// that costs in writes and memory, and what one change costs when there are
// many Services. Of BGP: how fast addresses become routes, ten thousand of
// them too, how fast a lost node is noticed, and what a client sees of a
// speaker's restart. It prints tables. It needs root and the programs in the folder that FAIRWAY_BIN
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

// limit bounds everything; on two cores it takes some forty minutes, most of which
// the API server takes to create thousands of Services.
const limit = 75 * time.Minute

// The parts, for those who want only one.
const (
	partController = "controller"
	partBGP        = "bgp"
)

// sizes are how many Services and repetitions the measurements are made with.
type sizes struct {
	only string // a part, all if empty

	burst   int // created at once
	cached  int // in all, while memory and edits are measured
	single  int // created one after the other
	waiting int // that wait for an address of a full pool

	latency  int           // created one after the other with BGP
	routes   int           // announced at once
	cuts     int           // of cables, with BFD
	busy     time.Duration // of all processors, with BFD
	restarts int           // of speakers
}

func main() {
	var n sizes
	flag.IntVar(&n.burst, "burst", 2000, "Services that are created at once")
	flag.IntVar(&n.cached, "cached", 10000, "Services with an address while memory and edits are measured")
	flag.IntVar(&n.single, "single", 100, "Services that are created one after the other")
	flag.IntVar(&n.waiting, "waiting", 500, "Services that wait for an address of a full pool")
	flag.StringVar(&n.only, "only", "", "Measure only the `part` controller or bgp")
	flag.IntVar(&n.latency, "latency", 40, "Services that are created one after the other, with BGP")
	flag.IntVar(&n.routes, "routes", 10000, "Routes that are announced at once")
	flag.IntVar(&n.cuts, "cuts", 12, "Cables that are cut, with BFD")
	flag.DurationVar(&n.busy, "busy", time.Minute, "How long all processors are kept busy, with BFD")
	flag.IntVar(&n.restarts, "restarts", 10, "Restarts of speakers while clients send requests")
	spin := flag.Duration("spin", 0, "Keep one processor busy for so long and do nothing else")
	flag.Parse()
	if *spin > 0 {
		keepBusy(*spin)
		return
	}
	if n.only != "" && n.only != partController && n.only != partBGP {
		fmt.Fprintf(os.Stderr, "bench: -only %s: there are %s and %s\n", n.only, partController, partBGP)
		os.Exit(2)
	}
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
	most := limit + n.busy
	ctx, cancel := context.WithTimeoutCause(ctx, most, fmt.Errorf("it took longer than %v", most))
	defer cancel()
	b, err := newBench(ctx, n)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, b.close()) }()
	err = b.measure()
	return errors.Join(err, b.report.write(os.Stdout)) // what was measured before an error, too
}
