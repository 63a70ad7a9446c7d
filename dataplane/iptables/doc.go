// Package iptables makes the kernel forward the ports of Services with
// iptables, of either flavour: legacy or nft. All chains are named FAIRWAY-*,
// in the tables nat and filter of iptables and of ip6tables.
//
// A new connection finds its frontend in three steps of at most 16 rules, by
// the last 12 bits of its destination, or for a NodePort in two, by ranges of
// port numbers. Of a change, only the chains are written that it is about:
//
//	nat    PREROUTING, OUTPUT -> SERVICES -> AT-3 -> AT-3A -> AT-3A7 -> SVC-x, LOC-x, EXT-x, SRC-x
//	                             SERVICES -> NODEPORTS -> NP-TCP-512-29696 -> NP-TCP-16-30080 -> ...
//	       POSTROUTING        -> MASQUERADE of what is marked, HAIRPINS -> HP-2 -> ... of what comes back
//	filter INPUT, FORWARD, OUTPUT -> VERDICTS -> AT-3 -> ... -> REFUSE or drop
//
// SVC-x are the endpoints of a service port for policy Cluster, LOC-x those for
// policy Local, EXT-x tells clients that are on the node from others, and SRC-x
// has the source ranges of load-balancer addresses.
//
// Nothing can be refused in nat, so that what is to be refused or dropped
// leaves it as it came, and filter sees to it. Changes of filter that take
// effect then come before those of nat, all others after them. Each table is
// changed in one step: legacy swaps it as a whole, and nft has every packet see
// the rules of one generation.
//
// The pure part ends with the text for iptables-restore (port.go, content.go,
// input.go). Rules are written as iptables-save prints them: what others undid
// is found and mended by comparison.
//
// # Limits
//
//   - Session affinity takes the match recent, which remembers the last 100
//     clients of each endpoint (parameter ip_list_tot of module xt_recent). Those
//     before them choose again. Nothing but ipset could do better.
//   - Session affinity is by service port, as kube-proxy's: a client stays at
//     its endpoint by whatever frontend it comes.
//   - Flavour legacy takes the kernel work for the whole table for any change,
//     and tells nobody of changes. What others add or remove is noticed within a
//     second, a rule in place of another of its size within ten minutes, or at an
//     Apply without changes.
//   - A process of the node that sends UDP to what is refused is told at once
//     (EPERM), as well as by the ICMP error.
//   - Nothing is accepted that other rules would drop, as where the policy of
//     FORWARD is DROP: kube-proxy does so in its iptables mode only.
//   - Chance and client addresses choose the endpoint. Annotations that ask for
//     another way have no effect.
//   - Rules that others insert before ours stay there.
//
// Where IPv6 or ip6tables is missing, New succeeds and IPv4 is served. Unserved
// says why IPv6 is not.
package iptables
