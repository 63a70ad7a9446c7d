// Package nftables makes the kernel forward the ports of Services with
// nf_tables: one table of each IP family, named fairway.
//
// The rules of a table do not depend on its Services. Of each frontend there
// is one element in a verdict map, which names what is to happen: a class
// chain that all frontends with as many endpoints share. It draws a number and
// finds the endpoint under it in another map. What changes of a Service is
// therefore a change of elements only, and goes to the kernel in one
// transaction, in proportion to the change.
//
// New connections take this way:
//
//	nat-prerouting, nat-output     -> dispatch -> external-local-c3-l1 -> dnat
//	                                           -> refuse, drop
//	learn-prerouting, learn-output -> learn    -> learn-600: session affinity
//	nat-postrouting                -> masquerade of what is marked, and of hairpins
//
// Everything is decided where the destination is translated, also what is
// refused or dropped: no packet after the first costs more than a look at its
// state, and the chains of other tables come afterwards.
//
// The pure part ends with a list of elements per port (element.go) and its
// difference (mirror.go). Backend hands it to the kernel in forms that nft can
// list: it crashes on some that the kernel would take.
//
// A Service that asks for hashing has chains of its own, which look for the
// hash of the client in a table of Maglev's: the same on every node. Session
// affinity then is hashing by the address alone. It holds as long as the table
// does, and knows no timeout.
//
// Where the node has no IPv6, or the kernel lacks something for it, IPv4 is served
// alone, and Unserved says why.
//
// Two things are not as kube-proxy does them. A client stays with an endpoint
// by frontend, not by service port: by another address of the Service it may
// come to another. And a process of the node that sends UDP to what is refused
// is told at once (EPERM), as well as by the ICMP error.
package nftables
