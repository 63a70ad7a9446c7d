package ipvs

import (
	"fmt"
	"slices"
	"strings"

	"github.com/fairway-lb/fairway/dataplane/service"
)

// DefaultScheduler is that of kube-proxy.
const DefaultScheduler = "rr"

// Schedulers returns the schedulers that a Linux kernel may have.
func Schedulers() []string {
	return []string{"rr", "wrr", "lc", "wlc", "lblc", "lblcr", "sh", "dh", "sed", "nq", "mh", "fo", "ovf", "twos"}
}

// Flags of a virtual service, linux/ip_vs.h.
const (
	flagPersistent = 0x1
	flagHashed     = 0x2  // the kernel's own
	flagFallback   = 0x8  // of sh and mh: one that is no choice is passed over
	flagPort       = 0x10 // of sh and mh: the client's port is hashed too
)

// scheduler is how a virtual service chooses.
type scheduler struct {
	name  string
	flags uint32
}

func newScheduler(name string, hashPorts bool) scheduler {
	s := scheduler{name: name}
	if name == "sh" || name == "mh" {
		// Without it sh goes on to choose endpoints that are on their way out.
		s.flags = flagFallback
		if hashPorts {
			s.flags |= flagPort
		}
	}
	return s
}

func (o Options) check() error {
	if !slices.Contains(Schedulers(), o.Scheduler) {
		return fmt.Errorf("%q is no IPVS scheduler: use one of %s", o.Scheduler, strings.Join(Schedulers(), ", "))
	}
	return nil
}

// schedulerOf returns how a port wants its endpoints chosen. The scheduler that
// it names says more than the hash, which other backends know too.
func (o Options) schedulerOf(p *service.Port) scheduler {
	switch {
	case p.Scheduler != "":
		return newScheduler(p.Scheduler, p.Hash == service.HashSourcePort)
	case p.Hash != service.HashNone:
		return newScheduler("mh", p.Hash == service.HashSourcePort)
	}
	name := o.Scheduler
	if len(p.Weights) > 0 {
		// These know no weights, and their namesakes are the same without any.
		switch name {
		case "rr", "lc":
			name = "w" + name
		}
	}
	return newScheduler(name, o.HashPorts)
}
