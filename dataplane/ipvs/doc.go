// Package ipvs makes the kernel forward the ports of Services with IPVS.
//
// A frontend is a virtual service, and its address is on a link of our own,
// fairway-ipvs, so that the node takes its packets in. Where what comes from
// within the node goes elsewhere than the rest (externalTrafficPolicy Local) it
// has a second virtual service, which IPVS finds by the packet's mark. IPVS knows
// nothing of refusal, source ranges and translated sources: that is for a
// constant number of iptables rules, which match ipsets of frontends.
//
// New connections take this way:
//
//	mangle INPUT, OUTPUT   drop what is not allowed or has no endpoint here; mark
//	                       what gets the node's address, and what is from within
//	filter INPUT           refuse what nobody serves, with all else that is sent to
//	                       addresses of ours
//	IPVS                   by mark, or by address and port
//	nat POSTROUTING        masquerade of what is marked, and of hairpins
//
// A plan (plan.go) says what a port wants in the kernel, desired.go adds up the
// plans and keeps what has changed, and sync.go brings the change to the kernel:
// work is in proportion to it. An endpoint that is removed gets no new
// connections, and goes when it has none; so does a Service. What the kernel has
// is read when a process starts, and taken over as it is.
//
// Virtual services of others are left alone. Ours are on an address of our link,
// in our set of services, or have a mark with our tag.
//
// The sysctls net.ipv4.vs.conntrack, expire_nodest_conn and
// expire_quiescent_template have to be 1.
//
// The kernel forces what is otherwise than with the nftables backend:
//
//   - Addresses of Services are addresses of the node. They can be pinged, their
//     other ports are refused, and the INPUT chains of others see what is sent to
//     Services, which has to pass them.
//   - A Service has an address no longer than flows that began there need it: a
//     cluster IP that has been given up refuses connections meanwhile, also where
//     ServiceCIDRs would have them dropped.
//   - A client stays with an endpoint (ClientIP) by frontend, and for as long as
//     the kernel remembers its flows, which for TCP is two minutes from their end.
//     Within the node and under externalTrafficPolicy Local it stays by hash: a
//     persistent virtual service that is found by mark does not translate ports.
//   - IPVS finds the flow of an answer by client and endpoint, whatever the
//     frontend. Where a client uses one port for several frontends that lead to
//     one endpoint, the flow that was made last has the answers to all, until
//     two minutes after its end with TCP, five after its last packet with UDP. A
//     client that comes back to a frontend finds its old flow, with affinity also
//     by TCP, and may wait for answers in vain.
//   - The hash of a client goes by the order in which endpoints came, too, and
//     while one that has left has flows, by the endpoints of before: nodes that
//     have seen other things differ for some of the clients.
//   - Flows of UDP go on for two seconds after their endpoint has ceased to serve,
//     or from outside under externalTrafficPolicy Local to be chosen, and end
//     with their Service. What comes in the moment in which the kernel ends them
//     is lost.
//   - The scheduler dh breaks the flows of an endpoint that is removed: it would
//     go on to choose it. Where a Service gets another scheduler, the kernel
//     refuses what begins in the moment between them. A virtual service that is
//     found by mark gets one with another session affinity.
//   - NodePorts answer neither at localhost, which New refuses to be asked for,
//     nor at link-local addresses.
//   - A network plugin that changes bits of the packet mark in filter INPUT, other
//     than to clear bits 16 to 19, hides the second virtual service.
package ipvs
