package dataplane

import "github.com/fairway-lb/fairway/dataplane/service"

// Backend keeps the kernel's forwarding of service ports equal to what it is
// told. It is for one goroutine, on a thread of the node's network namespace.
type Backend interface {
	// Apply makes the kernel follow changes, of which the first are to be all
	// ports there are. What others have undone in the meantime is made good,
	// also by an Apply of nothing. After an error what worked goes on working,
	// and the next Apply makes up for it: nothing is to be told twice.
	Apply([]service.PortChange) error
	// Changed receives when someone else has changed what is the backend's in
	// the kernel. What then is to be done is an Apply, if without changes.
	Changed() <-chan struct{}
	// Unserved says why ports of a family are passed over, since the node, its
	// kernel or a program lacks something; nil if they are not. It is as it was
	// when the backend was made.
	Unserved(service.Family) error
	// Close gives back what the process holds, and leaves the kernel as it is.
	Close() error
}
