package main

import (
	"errors"
	"fmt"
	"net/netip"
	"time"

	"golang.org/x/sys/unix"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/fairway-lb/fairway/dataplane"
	"github.com/fairway-lb/fairway/dataplane/nftables"
	"github.com/fairway-lb/fairway/dataplane/service"
	"github.com/fairway-lb/fairway/test/bench/measure"
	"github.com/fairway-lb/fairway/test/lab"
)

// fewServices are so few that nobody could tell where among them one is.
const fewServices = 10

const (
	// overDirect is how much longer than one to its endpoint a connection to a
	// Service may take.
	overDirect = 1.15
	// alike are two such ratios that differ by no more than medians do when one
	// measures again.
	alike = 1.1
)

// many is for how many Services the kernel is looked at without an API server,
// which takes minutes to create them.
func (d *dataplaneBench) many() int { return 3 * d.services }

// kernelTables are those of a node that the benchmark writes by the nftables
// backend itself.
type kernelTables struct {
	node     *lab.Host
	backend  *nftables.Backend
	state    *service.State
	services int
	swapped  map[int]bool // by the number of the Service
}

// byHand looks at the kernel alone.
func (d *dataplaneBench) byHand() (err error) {
	few, err := d.newKernelTables(d.byHandNode(nodeOfFew))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, few.backend.Close()) }()
	many, err := d.newKernelTables(d.byHandNode(nodeOfMany))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, many.backend.Close()) }()
	if err := few.grow(fewServices); err != nil {
		return err
	}
	if err := d.countElements(many); err != nil {
		return err
	}
	return d.compareConnections(few, many)
}

func (d *dataplaneBench) newKernelTables(node *lab.Host) (*kernelTables, error) {
	object, err := d.clientset.CoreV1().Nodes().Get(d.ctx, node.Name(), metav1.GetOptions{})
	if err != nil {
		return nil, fmt.Errorf("reading Node %s: %w", node.Name(), err)
	}
	config := dataplane.Config{ServiceCIDRs: []netip.Prefix{netip.MustParsePrefix(serviceCIDR)}}
	for _, text := range object.Spec.PodCIDRs {
		cidr, err := netip.ParsePrefix(text)
		if err != nil {
			return nil, fmt.Errorf("reading Node %s: %w", node.Name(), err)
		}
		config.Pods.CIDRs = append(config.Pods.CIDRs, cidr)
	}
	k := &kernelTables{node: node, state: service.NewState(node.Name()), swapped: map[int]bool{}}
	err = node.Do(func() (err error) {
		k.backend, err = nftables.New(config)
		return err
	})
	return k, err
}

// grow adds Services until there are so many.
func (k *kernelTables) grow(services int) error {
	for ; k.services < services; k.services++ {
		k.state.SetService(serviceObject(k.services))
		k.state.SetEndpointSlice(endpointSlice(k.services, k.node.Name(), numbers(endpointsEach)...))
	}
	_, err := k.apply()
	return err
}

// apply has the kernel follow the objects. It returns the CPU that this took.
func (k *kernelTables) apply() (cpu time.Duration, err error) {
	changes := k.state.Changes().Ports
	err = k.node.Do(func() error {
		before, err := threadCPU()
		if err != nil {
			return err
		}
		if err := k.backend.Apply(changes); err != nil {
			return err
		}
		after, err := threadCPU()
		cpu = after - before
		return err
	})
	return cpu, err
}

// threadCPU is the CPU time of the calling thread.
func threadCPU() (time.Duration, error) {
	var spent unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &spent); err != nil {
		return 0, fmt.Errorf("reading the processor clock of a thread: %w", err)
	}
	return time.Duration(spent.Nano()), nil
}

// countElements counts what a swap changes with some Services and with many.
func (d *dataplaneBench) countElements(k *kernelTables) error {
	t := d.report.table("An endpoint of a Service replaced by another, in the kernel alone (Fairway nftables)")
	var first *measure.NFTablesChanges
	for _, services := range []int{d.many() / 30, d.many()} {
		begin := time.Now()
		if err := k.grow(services); err != nil {
			return err
		}
		d.report.progress("%d Services are in the kernel after %v more", services, time.Since(begin).Round(time.Millisecond))
		changes, err := k.countSwap()
		if err != nil {
			return err
		}
		var cpu time.Duration
		for range d.swaps {
			one, err := k.swap()
			if err != nil {
				return err
			}
			cpu += one
		}
		t.row(fmt.Sprintf("among %d", services), changes.String(), "CPU "+each(cpu/time.Duration(d.swaps)))
		if first == nil {
			first = &changes
			continue
		}
		t.verdict(changes == *first && !changes.Missed, fmt.Sprintf("%d objects of the kernel change with %d Services, as many as with %d", changes.Total(), services, d.many()/30))
	}
	return nil
}

// swap replaces an endpoint of a Service, or has the former one back.
func (k *kernelTables) swap() (cpu time.Duration, err error) {
	number, second := k.services/3, 1
	k.swapped[number] = !k.swapped[number]
	if k.swapped[number] {
		second = newEndpoint
	}
	k.state.SetEndpointSlice(endpointSlice(number, k.node.Name(), 0, second))
	return k.apply()
}

// countSwap counts what a swap changes.
func (k *kernelTables) countSwap() (measure.NFTablesChanges, error) {
	var watch *measure.NFTables
	err := k.node.Do(func() (err error) {
		watch, err = measure.WatchNFTables()
		return err
	})
	if err != nil {
		return measure.NFTablesChanges{}, err
	}
	_, err = k.swap()
	changes, stopped := watch.Stop()
	return changes, errors.Join(err, stopped)
}

// compareConnections times connections to the first of few Services and the
// last of many, from a pod to one of the same node.
func (d *dataplaneBench) compareConnections(few, many *kernelTables) error {
	var targets []target
	for _, k := range []*kernelTables{few, many} {
		client, last := d.clients[k.node].Namespace, k.services-1
		targets = append(targets,
			target{fmt.Sprintf("direct, on a node with %d Services", k.services), client, netip.AddrPortFrom(endpointAddress(last, 0), servicePort)},
			target{fmt.Sprintf("the first of %d", k.services), client, netip.AddrPortFrom(clusterIP(0), servicePort)},
			target{fmt.Sprintf("the last of %d", k.services), client, netip.AddrPortFrom(clusterIP(last), servicePort)},
		)
	}
	none := d.byHandNode(nodeOfNone)
	targets = append(targets, target{"direct, on a node without rules, which tracks no connections", d.clients[none].Namespace, netip.AddrPortFrom(endpointAddress(0, 0), servicePort)})
	took, err := connect(d.connects, targets...)
	if err != nil {
		return err
	}
	t := d.report.table("A connection from a pod to one on the same node (Fairway nftables)")
	medians := make([]time.Duration, len(targets))
	for i, target := range targets {
		medians[i] = percentile(took[i], 50)
		t.row(target.what, distribution(took[i])...)
	}
	// Nodes differ, wherever their memory is: each is compared with itself.
	first, last := ratio(medians[1], medians[0]), ratio(medians[5], medians[3])
	t.verdict(last <= overDirect, fmt.Sprintf("%s takes %s as long as a direct one, at most %s", targets[5].what, factor(last), factor(overDirect)))
	t.verdict(last <= alike*first, fmt.Sprintf("that is the same as of %s: %s, at most %s apart", targets[1].what, factor(first), factor(alike)))
	return nil
}
