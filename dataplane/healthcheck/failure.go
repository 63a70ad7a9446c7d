package healthcheck

import (
	"errors"
	"fmt"
	"net/netip"
	"syscall"

	"k8s.io/apimachinery/pkg/types"
)

// Failure is a health-check node port that cannot be served. Load balancers
// take this node for one without endpoints of the Service.
type Failure struct {
	Service types.NamespacedName
	Port    uint16
	Address netip.Addr // of this node; the zero one for all
	Err     error      // of listening
}

// String returns a sentence for the Service's owner: what, where, and what to
// do about it.
func (f Failure) String() string {
	where := "all addresses"
	if f.Address.IsValid() {
		where = "address " + f.Address.String()
	}
	return fmt.Sprintf("The health check of Service %s cannot be served on TCP port %d of %s of this node, so load balancers send it no traffic: %s. It is tried again.",
		f.Service, f.Port, where, f.remedy())
}

// remedy says what is wrong and what helps.
func (f Failure) remedy() string {
	switch {
	case errors.Is(f.Err, syscall.EADDRINUSE):
		return "another program has the port; end that program or move it to another port, or let the Service have another healthCheckNodePort, " +
			"by setting its externalTrafficPolicy to Cluster and then to Local again"
	case errors.Is(f.Err, syscall.EADDRNOTAVAIL):
		return "the address is not one of this node; give it to an interface, or choose other node port addresses"
	case errors.Is(f.Err, syscall.EACCES), errors.Is(f.Err, syscall.EPERM):
		return "the kernel does not permit it; choose a healthCheckNodePort of 1024 or more, or run the speaker with the capability NET_BIND_SERVICE"
	case errors.Is(f.Err, syscall.EMFILE), errors.Is(f.Err, syscall.ENFILE):
		return "too many files are open; raise the limit of open files"
	}
	return fmt.Sprintf("%v; look for what keeps this node from listening on it", f.Err)
}
