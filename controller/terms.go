package controller

import (
	"fmt"
	"hash/fnv"

	"github.com/fairway-lb/fairway/controller/ipam"
)

// termsOf digests what a Service has and on which terms others may share it.
// Others who wait for its address are looked at when it changes, and only
// then: two who wait for each other's would wake each other for ever.
func termsOf(asked ipam.Request, held []ipam.Allocation) uint64 {
	digest := fnv.New64a()
	_, _ = fmt.Fprint(digest, addressesText(held), asked.ShareKey, asked.Addresses, asked.Ports, asked.Selector, asked.Local) // never fails
	return digest.Sum64()
}
