// Command bench measures Fairway against a real API server and real routers.
// Of the controller: how fast thousands of Services get their addresses, what
// that costs in writes and memory, and what one change costs when there are
// many Services. Of BGP: how fast addresses become routes, ten thousand of
// them too, how fast a lost node is noticed, and what a client sees of a
// speaker's restart. Of the dataplane: what it costs and how fast it is beside
// kube-proxy. It prints tables. It needs root and the programs in the folder
// that FAIRWAY_BIN names; `make bench` builds them.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/go-logr/logr"
	ctrllog "sigs.k8s.io/controller-runtime/pkg/log"
)

// limit bounds everything; on two cores it takes about an hour, much of which
// the API server takes to create thousands of Services.
const limit = 120 * time.Minute

// The parts, for those who want only one.
const (
	partController = "controller"
	partBGP        = "bgp"
	partDataplane  = "dataplane"
)

// parts are in the order in which they are measured.
var parts = []string{partController, partBGP, partDataplane}

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

	services int // that the dataplane forwards to
	swaps    int // of endpoints
	connects int // to each address
}

// measures tells whether a part is asked for.
func (n *sizes) measures(part string) bool { return n.only == "" || n.only == part }

func main() {
	var n sizes
	flag.IntVar(&n.burst, "burst", 2000, "Services that are created at once")
	flag.IntVar(&n.cached, "cached", 10000, "Services with an address while memory and edits are measured")
	flag.IntVar(&n.single, "single", 100, "Services that are created one after the other")
	flag.IntVar(&n.waiting, "waiting", 500, "Services that wait for an address of a full pool")
	flag.StringVar(&n.only, "only", "", "Measure only the `part` controller, bgp or dataplane")
	flag.IntVar(&n.latency, "latency", 40, "Services that are created one after the other, with BGP")
	flag.IntVar(&n.routes, "routes", 10000, "Routes that are announced at once")
	flag.IntVar(&n.cuts, "cuts", 12, "Cables that are cut, with BFD")
	flag.DurationVar(&n.busy, "busy", time.Minute, "How long all processors are kept busy, with BFD")
	flag.IntVar(&n.restarts, "restarts", 10, "Restarts of speakers while clients send requests")
	flag.IntVar(&n.services, "services", 10000, "Services that the dataplane forwards to; three times as many where the API server is not asked")
	flag.IntVar(&n.swaps, "swaps", 50, "Endpoints that are swapped one after the other, with each service proxy")
	flag.IntVar(&n.connects, "connects", 500, "Connections to each address whose first packets are timed")
	spin := flag.Duration("spin", 0, "Keep one processor busy for so long and do nothing else")
	flag.Parse()
	if *spin > 0 {
		keepBusy(*spin)
		return
	}
	if n.only != "" && !slices.Contains(parts, n.only) {
		fmt.Fprintf(os.Stderr, "bench: -only %s: there are %s\n", n.only, strings.Join(parts, ", "))
		os.Exit(2)
	}
	if least := leastServices(n.swaps); n.services < least {
		fmt.Fprintf(os.Stderr, "bench: -services %d: with -swaps %d it takes at least %d\n", n.services, n.swaps, least)
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

// run measures the parts that are asked for, and prints.
func run(ctx context.Context, n sizes) error {
	if os.Getuid() != 0 {
		return errors.New("the benchmark makes network namespaces: run it as root")
	}
	most := limit + n.busy
	ctx, cancel := context.WithTimeoutCause(ctx, most, fmt.Errorf("it took longer than %v", most))
	defer cancel()
	r, err := newReport()
	if err != nil {
		return err
	}
	if n.measures(partController) || n.measures(partBGP) {
		err = measureControllerAndBGP(ctx, n, r)
	}
	if err == nil && n.measures(partDataplane) {
		err = measureDataplane(ctx, n, r)
	}
	return errors.Join(err, r.write(os.Stdout)) // what was measured before an error, too
}

// measureControllerAndBGP makes a lab, measures, and removes the lab again.
func measureControllerAndBGP(ctx context.Context, n sizes, r *report) (err error) {
	b, err := newBench(ctx, n, r)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, b.close()) }()
	return b.measure()
}
