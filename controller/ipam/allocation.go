package ipam

import "net/netip"

// Allocation is an address that a Service holds.
type Allocation struct {
	Address netip.Addr
	// Pool is the name of the pool that the address came from. It is ""
	// for an adopted address that is in no pool; the pool need not exist
	// any more, nor contain the address still.
	Pool string
	// Choice says why this pool.
	Choice Choice
}

// Choice is the reason for which a pool was chosen.
type Choice string

// The reasons for which a pool is chosen.
const (
	ChosenByName      Choice = "ByName"      // the Service names the pool
	ChosenByAddress   Choice = "ByAddress"   // the Service names an address of the pool
	ChosenByNamespace Choice = "ByNamespace" // the pool is bound to the Service's namespace
	ChosenByLabels    Choice = "ByLabels"    // the pool is bound to no namespace and selects the Service
	ChosenAsDefault   Choice = "Default"     // no other pool fits and this is the default
	ChosenBySharing   Choice = "Sharing"     // Services of the same key have an address of the pool
	ChosenByAdoption  Choice = "Adopted"     // the Service had the address already
)

// Text completes "Eip x, ...".
func (c Choice) Text() string {
	switch c {
	case ChosenByName:
		return "which the Service names"
	case ChosenByAddress:
		return "which contains the requested address"
	case ChosenByNamespace:
		return "which is bound to the Service's namespace"
	case ChosenByLabels:
		return "which selects the Service by its labels"
	case ChosenAsDefault:
		return "which is the default"
	case ChosenBySharing:
		return "where it shares an address with Services of the same allow-shared-ip key"
	default:
		return "from which the Service had it before"
	}
}
