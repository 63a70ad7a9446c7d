package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"slices"

	"github.com/fairway-lb/fairway/dataplane/iptables"
	"github.com/fairway-lb/fairway/dataplane/ipvs"
	"github.com/fairway-lb/fairway/dataplane/nftables"
)

// cleanupCommand is the argument that has the program remove what a speaker has
// left in the kernel, in place of being one.
const cleanupCommand = "cleanup"

// cleanups remove what the dataplanes leave in the kernel, which goes on to
// forward when a speaker ends.
var cleanups = []struct {
	dataplane string
	remove    func() error
}{
	{dataplaneNFTables, nftables.Cleanup},
	{dataplaneIPTables, iptables.Cleanup},
	{dataplaneIPVS, ipvs.Cleanup},
}

// cleanup is the command. It returns the code to exit with.
func cleanup(args []string) int {
	flags := flag.NewFlagSet("fairway-speaker "+cleanupCommand, flag.ExitOnError)
	flags.Usage = func() {
		fmt.Fprintln(flags.Output(), "fairway-speaker cleanup removes from this node's kernel what the dataplanes of Fairway have put there: its nf_tables,\nchains of iptables, IPVS services and link. Traffic of Services is then up to others. No speaker may run with a dataplane.")
	}
	if err := flags.Parse(args); err != nil || flags.NArg() > 0 {
		flags.Usage()
		return 2
	}
	if err := removeAllBut(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

// removeAllBut removes what is in the kernel of all dataplanes but some.
func removeAllBut(dataplanes ...string) error {
	var errs []error
	for _, c := range cleanups {
		if slices.Contains(dataplanes, c.dataplane) {
			continue
		}
		if err := c.remove(); err != nil {
			errs = append(errs, fmt.Errorf("removing the rules of the dataplane %s: %w", c.dataplane, err))
		}
	}
	return errors.Join(errs...)
}
