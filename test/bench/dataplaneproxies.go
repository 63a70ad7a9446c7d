package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/fairway-lb/fairway/test/bench/measure"
	"github.com/fairway-lb/fairway/test/lab"
)

// What Fairway has to be better by.
const (
	loadFactor    = 8
	nftablesSwaps = 10
	iptablesSwaps = 3
)

const (
	// loadPatience bounds a load: kube-proxy's nftables mode takes a time that
	// grows with the square of the Services.
	loadPatience = 15 * time.Minute
	// swapsTime is how long endpoints are swapped, fewer than asked for if
	// each takes seconds.
	swapsTime = 90 * time.Second
	// leastSwaps are made in any case.
	leastSwaps = 3
	// restPeriod is what a process that rests uses little CPU in, restShare of
	// it at most.
	restPeriod = 3 * time.Second
	restShare  = 20
	// idlePeriod is how long a process at rest is watched.
	idlePeriod = 10 * time.Second
	// leastTime is what can be told from nothing, by clocks that tick every 10 ms.
	leastTime = 30 * time.Millisecond
	// askTimeout is how long an answer may take on a busy machine. Where nobody
	// forwards, ICMP says so at once.
	askTimeout = 200 * time.Millisecond
	// askPause is between the questions whether an endpoint is there.
	askPause = 5 * time.Millisecond
)

var (
	errEnded = errors.New("the service proxy has ended")
	errLate  = errors.New("the service proxy took too long")
)

// swapsFirst is the first Service of which an endpoint is swapped.
const swapsFirst = 2

// swapped are the Services of which a candidate sees an endpoint swapped: those
// that are timed, and one that is counted.
func (d *dataplaneBench) swapped(c *candidate, i int) int {
	return swapsFirst + c.number*(d.swaps+1) + i
}

// leastServices is how many there have to be for so many swaps.
func leastServices(swaps int) int { return swapsFirst + candidateCount*(swaps+1) + 1 }

// startEach measures how long each candidate takes by itself, with one Service,
// and leaves nothing of it.
func (d *dataplaneBench) startEach() error {
	for _, c := range d.candidates {
		d.report.progress("%s", c.name)
		var err error
		if c.idle, err = d.load(c, 0); err != nil {
			return fmt.Errorf("%s: %w", c.name, c.explain(err))
		}
		if err := c.process.Stop(d.ctx); err != nil {
			return fmt.Errorf("%s: %w", c.name, err)
		}
		// That is all rules: those of iptables are some of nf_tables.
		if out, err := c.node.Command(d.ctx, "nft", "flush", "ruleset").CombinedOutput(); err != nil {
			return fmt.Errorf("removing the rules of %s: %w: %s", c.name, err, out)
		}
	}
	return nil
}

// loadAll measures how long a candidate takes with all Services.
func (d *dataplaneBench) loadAll(c *candidate, t *table) (err error) {
	c.full, err = d.load(c, 0, d.services-1)
	if errors.Is(err, errLate) {
		c.full.after = loadPatience // at least
	}
	if err != nil {
		return err
	}
	t.row(c.name, c.full.cells()...)
	return nil
}

// load starts a candidate and measures until Services of these numbers are
// there.
func (d *dataplaneBench) load(c *candidate, numbers ...int) (l load, err error) {
	if err := d.warmAPIServer(); err != nil {
		return l, err
	}
	begin := time.Now()
	if err := d.startAndAwait(c, numbers...); err != nil {
		return l, err
	}
	l.after = time.Since(begin)
	if err := d.rest(c); err != nil {
		return l, err
	}
	if l.cpu, err = measure.ReadCPU(c.process.Pid()); err != nil {
		return l, err
	}
	l.syncing, err = c.metrics.Syncing(d.ctx, c.node)
	return l, err
}

func (l load) cells() []string {
	return []string{round(l.after), round(l.syncing), round(l.cpu.Programs + l.cpu.Kernel), round(l.cpu.Kernel)}
}

// more is what a load takes beyond another one.
func (l load) more(than load) load {
	return load{
		after:   l.after - than.after,
		syncing: l.syncing - than.syncing,
		cpu:     measure.CPU{Programs: l.cpu.Programs - than.cpu.Programs, Kernel: l.cpu.Kernel - than.cpu.Kernel},
	}
}

// by is how many times as much as another a load takes.
func (l load) by(other load) []string {
	times := func(a, b time.Duration) string {
		if a < leastTime || b < leastTime {
			return "-" // by chance, it may be below zero
		}
		return factor(ratio(a, b))
	}
	return []string{
		times(l.after, other.after),
		times(l.syncing, other.syncing),
		times(l.cpu.Programs+l.cpu.Kernel, other.cpu.Programs+other.cpu.Kernel),
		times(l.cpu.Kernel, other.cpu.Kernel),
	}
}

// startAndAwait starts a candidate and waits until it forwards to Services of
// these numbers.
func (d *dataplaneBench) startAndAwait(c *candidate, numbers ...int) (err error) {
	if c.process, err = c.start(c.node.Name()); err != nil {
		return err
	}
	for _, number := range numbers {
		if err := d.awaitAnswer(c, number, "", loadPatience); err != nil {
			return err
		}
	}
	return nil
}

// warmAPIServer has the API server answer a question like those to come, so
// that none of them is the first.
func (d *dataplaneBench) warmAPIServer() error {
	options := metav1.ListOptions{ResourceVersion: "0"} // as of its cache
	if _, err := d.clientset.CoreV1().Services("").List(d.ctx, options); err != nil {
		return fmt.Errorf("listing Services: %w", err)
	}
	if _, err := d.clientset.DiscoveryV1().EndpointSlices("").List(d.ctx, options); err != nil {
		return fmt.Errorf("listing EndpointSlices: %w", err)
	}
	return nil
}

// awaitAnswer waits until a Service is answered for on a candidate's node, by a
// pod if it is named.
func (d *dataplaneBench) awaitAnswer(c *candidate, number int, pod string, patience time.Duration) error {
	ctx, cancel := context.WithTimeoutCause(d.ctx, patience, errLate)
	defer cancel()
	url := "http://" + netip.AddrPortFrom(clusterIP(number), servicePort).String() + "/"
	pause := time.NewTicker(askPause)
	defer pause.Stop()
	last := errors.New("nobody was asked")
	for {
		// Of its endpoints, one is chosen at random.
		for range 4 * endpointsEach {
			var answer string
			if answer, last = ask(ctx, d.clients[c.node], url); last != nil {
				break
			}
			if strings.HasPrefix(answer, pod) {
				return nil
			}
			last = fmt.Errorf("the answer is %q", answer)
		}
		select {
		case <-pause.C:
		case <-c.process.Done():
			return fmt.Errorf("waiting for an answer of Service %s: %w", serviceName(number), errEnded)
		case <-ctx.Done():
			return fmt.Errorf("waiting for an answer of Service %s: %w; last: %w", serviceName(number), context.Cause(ctx), last)
		}
	}
}

func ask(ctx context.Context, from *lab.RunningPod, url string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	return from.Get(ctx, url)
}

// rest waits until a candidate has done what it does later.
func (d *dataplaneBench) rest(c *candidate) error {
	for {
		used, err := d.cpuOf(c, restPeriod)
		if err != nil || used < restPeriod/restShare {
			return err
		}
	}
}

// cpuOf is what a candidate uses in a time.
func (d *dataplaneBench) cpuOf(c *candidate, period time.Duration) (time.Duration, error) {
	before, err := measure.CPUTimeWithChildren(c.process.Pid())
	if err != nil {
		return 0, err
	}
	select {
	case <-time.After(period):
	case <-c.process.Done():
		return 0, errEnded
	case <-d.ctx.Done():
		return 0, context.Cause(d.ctx)
	}
	after, err := measure.CPUTimeWithChildren(c.process.Pid())
	return after - before, err
}

// swap replaces endpoints one after the other. What the candidate does anyway
// is not counted, and nothing is counted while the kernel is watched, which
// makes it tell of all changes.
func (d *dataplaneBench) swap(c *candidate, t *table) error {
	idle, err := d.cpuOf(c, idlePeriod)
	if err != nil {
		return err
	}
	before, err := measure.CPUTimeWithChildren(c.process.Pid())
	if err != nil {
		return err
	}
	begin := time.Now()
	var took []time.Duration
	for i := 0; i < d.swaps && (i < leastSwaps || time.Since(begin) < swapsTime); i++ {
		since := time.Now()
		if err := d.swapEndpoint(c, i); err != nil {
			return err
		}
		took = append(took, time.Since(since))
	}
	if err := d.rest(c); err != nil {
		return err
	}
	after, err := measure.CPUTimeWithChildren(c.process.Pid())
	if err != nil {
		return err
	}
	anyway := time.Duration(float64(idle) * float64(time.Since(begin)) / float64(idlePeriod))
	c.swapCPU = max(leastTime, after-before-anyway) / time.Duration(len(took))
	if err := d.countSwap(c); err != nil {
		return err
	}
	slices.Sort(took)
	t.row(c.name, fmt.Sprint(len(took)), round(c.swapCPU), "p50 "+round(percentile(took, 50)), "max "+round(took[len(took)-1]),
		round(idle*time.Duration(time.Minute/idlePeriod)), c.swapCounts.String())
	return nil
}

// swapEndpoint replaces an endpoint and waits until the other one is reached.
func (d *dataplaneBench) swapEndpoint(c *candidate, i int) error {
	number := d.swapped(c, i)
	if err := d.setEndpoints(d.ctx, number, 0, newEndpoint); err != nil {
		return err
	}
	return d.awaitAnswer(c, number, newPod+" ", loadPatience)
}

// countSwap counts what one swap changes in the kernel.
func (d *dataplaneBench) countSwap(c *candidate) error {
	var watch *measure.NFTables
	err := c.node.Do(func() (err error) {
		watch, err = measure.WatchNFTables()
		return err
	})
	if err != nil {
		return err
	}
	err = d.swapEndpoint(c, d.swaps)
	if err == nil {
		err = d.rest(c)
	}
	counts, stopped := watch.Stop()
	c.swapCounts = counts
	return errors.Join(err, stopped)
}

func (d *dataplaneBench) judgeLoads(t *table) {
	for _, pair := range [][2]*candidate{{d.kubeProxyNFTables(), d.fairwayNFTables()}, {d.kubeProxyIPTables(), d.fairwayIPTables()}} {
		theirs, ours := pair[0], pair[1]
		if theirs.late || ours.late {
			continue
		}
		t.row(theirs.name+" by "+ours.name, theirs.full.by(ours.full)...)
		t.row("the same beyond one Service", theirs.full.more(theirs.idle).by(ours.full.more(ours.idle))...)
	}
	ours := d.fairwayNFTables()
	for _, promise := range []struct {
		theirs *candidate
		factor float64
	}{
		{d.kubeProxyNFTables(), loadFactor},
		{d.kubeProxyIPTables(), 1},
	} {
		if ours.late {
			t.verdict(false, fmt.Sprintf("%s forwards within %v", ours.name, loadPatience))
			break
		}
		r := ratio(promise.theirs.full.after, ours.full.after) // or more, if they are late
		t.verdict(r >= promise.factor, fmt.Sprintf("%s takes %s as long as %s, at least %s", promise.theirs.name, factor(r), ours.name, factor(promise.factor)))
	}
}

func (d *dataplaneBench) judgeSwaps(t *table) {
	for _, pair := range []struct {
		theirs, ours *candidate
		promised     float64
	}{
		{d.kubeProxyNFTables(), d.fairwayNFTables(), nftablesSwaps},
		{d.kubeProxyIPTables(), d.fairwayIPTables(), iptablesSwaps},
	} {
		if pair.theirs.late || pair.ours.late {
			t.verdict(!pair.ours.late, fmt.Sprintf("%s and %s cannot be compared: not both have loaded", pair.theirs.name, pair.ours.name))
			continue
		}
		r := ratio(pair.theirs.swapCPU, pair.ours.swapCPU)
		t.verdict(r >= pair.promised, fmt.Sprintf("%s uses %s as much CPU as %s, at least %s", pair.theirs.name, factor(r), pair.ours.name, factor(pair.promised)))
	}
}
