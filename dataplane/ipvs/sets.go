package ipvs

import (
	"github.com/fairway-lb/fairway/dataplane/service"
)

// setKind is one of the sets that rules match, of which each family has one.
type setKind uint8

const (
	restrictedSet   setKind = iota // frontends with source ranges
	allowedSet                     // frontend, source
	dropSet                        // frontends that have no endpoint here
	externalDropSet                // likewise for what comes from outside
	rejectSet                      // frontends that have none anywhere
	clusterIPsSet                  // frontends that keep the source of pods
	masqueradeSet                  // frontends that keep none
	withinSet                      // frontend -> mark, for what comes from within
	hairpinsSet                    // endpoint, itself
	servicesSet                    // what IPVS has of us, also while it ends
	addressesSet                   // on our link: nothing else answers there
	podsSet                        // sources
	serviceCIDRsSet                // where cluster IPs come from
	setKinds
)

// setSpec is a set as it is made.
type setSpec struct {
	name, typ string
	marks     bool // entries have marks
}

var sets = [setKinds]setSpec{
	restrictedSet:   {name: "restricted", typ: hashIPPort},
	allowedSet:      {name: "allowed", typ: hashIPPortNet},
	dropSet:         {name: "drop", typ: hashIPPort},
	externalDropSet: {name: "external-drop", typ: hashIPPort},
	rejectSet:       {name: "reject", typ: hashIPPort},
	clusterIPsSet:   {name: "cluster-ips", typ: hashIPPort},
	masqueradeSet:   {name: "masquerade", typ: hashIPPort},
	withinSet:       {name: "within", typ: hashIPPort, marks: true},
	hairpinsSet:     {name: "hairpins", typ: hashIPPortIP},
	servicesSet:     {name: "services", typ: hashIPPort},
	addressesSet:    {name: "addresses", typ: hashIP},
	podsSet:         {name: "pods", typ: hashNet},
	serviceCIDRsSet: {name: "service-cidrs", typ: hashNet},
}

// The types of sets.
const (
	hashIP        = "hash:ip"
	hashNet       = "hash:net"
	hashIPPort    = "hash:ip,port"
	hashIPPortIP  = "hash:ip,port,ip"
	hashIPPortNet = "hash:ip,port,net"
)

// families are all that there are.
var families = []service.Family{service.IPv4, service.IPv6}

// setName returns the name of a set in the kernel.
func setName(kind setKind, family service.Family) string {
	if family == service.IPv6 {
		return namePrefix + sets[kind].name + "-6"
	}
	return namePrefix + sets[kind].name + "-4"
}

// namePrefix tells our sets from others'.
const namePrefix = "fairway-ipvs-"
