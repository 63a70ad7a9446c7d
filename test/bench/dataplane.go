package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"k8s.io/client-go/kubernetes"

	"github.com/fairway-lb/fairway/test/bench/measure"
	"github.com/fairway-lb/fairway/test/lab"
)

// The nodes of the dataplane's lab after those of the candidates. The first of
// them also has the pods behind all Services.
const (
	nodeOfFew = iota
	nodeOfMany
	nodeOfNone
	nodesByHand
)

// candidateCount is how many service proxies are compared.
const candidateCount = 4

// dataplaneBench compares service proxies. Each has a node of its own, where it
// works while the others do not.
type dataplaneBench struct {
	*lab.Lab
	sizes
	ctx        context.Context
	report     *report
	clientset  kubernetes.Interface
	candidates [candidateCount]*candidate
	clients    map[*lab.Host]*lab.RunningPod // on every node
}

// candidate is a service proxy and what was measured of it.
type candidate struct {
	name    string
	metrics measure.ServiceProxy
	start   func(node string) (*lab.Process, error)
	number  int // from 0; its node's too
	node    *lab.Host
	process *lab.Process

	idle, full load          // with one Service, and with all
	late       bool          // it did not forward to all in time
	swapCPU    time.Duration // each
	swapCounts measure.NFTablesChanges
}

// load is what it takes from the start of a candidate until all is forwarded.
type load struct {
	after   time.Duration
	syncing time.Duration // of that, while it changed the kernel
	cpu     measure.CPU
}

// measureDataplane makes a lab, measures, and removes the lab again.
func measureDataplane(ctx context.Context, n sizes, r *report) (err error) {
	ctx, stop := context.WithCancel(ctx)
	d := &dataplaneBench{sizes: n, ctx: ctx, report: r, clients: map[*lab.Host]*lab.RunningPod{}}
	d.candidates = [candidateCount]*candidate{
		d.kubeProxy("nftables"),
		d.kubeProxy("iptables"),
		d.fairway("nftables"),
		d.fairway("iptables"),
	}
	options := lab.Options{Nodes: len(d.candidates) + nodesByHand, KubeProxy: lab.NoKubeProxy, Log: r.progress}
	if d.Lab, err = lab.New(ctx, options); err != nil {
		stop()
		return fmt.Errorf("making a lab: %w", err)
	}
	defer func() {
		stop()
		err = errors.Join(err, d.Close())
	}()
	for i, c := range d.candidates {
		c.number, c.node = i, d.Nodes()[i]
	}
	return r.steps([]step{
		{"a cluster for the dataplane", d.setUp},
		{"one Service with each service proxy", d.startEach},
		{fmt.Sprintf("%d more Services", n.services-1), func() error { return d.createServices(1, n.services) }},
		{fmt.Sprintf("%d Services with each service proxy", n.services), d.compare},
		{fmt.Sprintf("the kernel's tables with up to %d Services", d.many()), d.byHand},
		{fmt.Sprintf("memory with %d endpoints of each", endpointsForMemory), d.memory},
	})
}

func (d *dataplaneBench) kubeProxy(mode string) *candidate {
	return &candidate{
		name:    "kube-proxy " + mode,
		metrics: measure.KubeProxy,
		start:   func(node string) (*lab.Process, error) { return d.StartKubeProxy(node, mode) },
	}
}

func (d *dataplaneBench) fairway(dataplane string) *candidate {
	return &candidate{
		name:    "Fairway " + dataplane,
		metrics: measure.Dataplane,
		start: func(node string) (*lab.Process, error) {
			return d.StartSpeaker(d.ctx, node, "--dataplane="+dataplane)
		},
	}
}

// The candidates by what they are.
func (d *dataplaneBench) kubeProxyNFTables() *candidate { return d.candidates[0] }
func (d *dataplaneBench) kubeProxyIPTables() *candidate { return d.candidates[1] }
func (d *dataplaneBench) fairwayNFTables() *candidate   { return d.candidates[2] }
func (d *dataplaneBench) fairwayIPTables() *candidate   { return d.candidates[3] }

// byHandNode is one where no candidate works.
func (d *dataplaneBench) byHandNode(i int) *lab.Host { return d.Nodes()[len(d.candidates)+i] }

// compare measures one candidate after the other, and puts what they did side
// by side.
func (d *dataplaneBench) compare() error {
	loads := d.report.table(fmt.Sprintf("From nothing to %d Services with %d endpoints each", d.services, endpointsEach))
	loads.row("", "all is forwarded after", "of that, changing the kernel", "CPU", "of that, in the kernel")
	for _, c := range d.candidates {
		loads.row(c.name+", one Service", c.idle.cells()...)
	}
	swaps := d.report.table(fmt.Sprintf("An endpoint of a Service replaced by another, among %d Services", d.services))
	swaps.row("", "swaps", "CPU each", "until it has connections", "", "CPU of a minute at rest", "objects of nf_tables that one changed")
	first := d.report.table(fmt.Sprintf("A connection from a pod to one on another node, among %d Services; direct ones pass the rules too", d.services))
	for _, c := range d.candidates {
		for _, measurement := range []struct {
			what string
			do   func(*candidate, *table) error
			into *table
		}{
			{"load", d.loadAll, loads},
			{"swaps", d.swap, swaps},
			{"connections", d.firstPackets, first},
		} {
			d.report.progress("%s: %s", c.name, measurement.what)
			err := measurement.do(c, measurement.into)
			if c.late = errors.Is(err, errLate); c.late {
				d.report.progress("%s: %v", c.name, err)
				measurement.into.row(c.name, "not within "+loadPatience.String())
				break // others are to be measured all the same
			}
			if err != nil {
				return fmt.Errorf("%s: %s: %w", c.name, measurement.what, c.explain(err))
			}
		}
		if err := c.process.Stop(d.ctx); err != nil {
			return fmt.Errorf("%s: %w", c.name, err)
		}
	}
	d.judgeLoads(loads)
	d.judgeSwaps(swaps)
	return nil
}

// explain adds to an error how the process ended, if it did.
func (c *candidate) explain(err error) error {
	if c.process == nil {
		return err
	}
	return errors.Join(err, c.process.Err())
}

// ratio is how much more one is than another.
func ratio(a, b time.Duration) float64 { return float64(a) / float64(max(b, 1)) }
