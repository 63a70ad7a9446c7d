package main

import (
	"context"
	"fmt"

	"github.com/fairway-lb/fairway/dataplane/iptables"
	"github.com/fairway-lb/fairway/dataplane/nftables"
	"github.com/fairway-lb/fairway/test/bench/measure"
)

// dataplaneMemoryLimit is what a speaker may have with 10,000 Services of 10
// endpoints.
const dataplaneMemoryLimit = 250 << 20

// memory starts the speakers with many endpoints, on kernels without rules.
func (d *dataplaneBench) memory() error {
	err := d.each(0, d.services, func(ctx context.Context, number int) error {
		return d.setEndpoints(ctx, number, numbers(endpointsForMemory)...)
	})
	if err != nil {
		return err
	}
	t := d.report.table(fmt.Sprintf("Memory of a speaker that starts with %d Services of %d endpoints", d.services, endpointsForMemory))
	for _, test := range []struct {
		*candidate
		cleanup func() error
	}{
		{d.fairwayNFTables(), nftables.Cleanup},
		{d.fairwayIPTables(), iptables.Cleanup},
	} {
		if err := test.node.Do(test.cleanup); err != nil {
			return err
		}
		err := d.startAndAwait(test.candidate, 0, d.services-1)
		if err == nil {
			err = d.rest(test.candidate)
		}
		if err != nil {
			return fmt.Errorf("%s: %w", test.name, test.explain(err))
		}
		memory, err := measure.ReadMemory(test.process.Pid())
		if err != nil {
			return err
		}
		if err := test.process.Stop(d.ctx); err != nil {
			return err
		}
		t.row(test.name, "resident "+mebibytes(memory.Resident), "peak "+mebibytes(memory.Peak))
		t.verdict(memory.Resident < dataplaneMemoryLimit, fmt.Sprintf("%s: %s are under %s", test.name, mebibytes(memory.Resident), mebibytes(dataplaneMemoryLimit)))
	}
	return nil
}
