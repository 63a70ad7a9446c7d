// Package layer2 makes this node answer for addresses that are on none of its
// interfaces: ARP requests for IPv4, neighbor solicitations for IPv6. It is
// told the whole set of addresses that the node owns (Responder.Sync) and
// makes the wire equal to it; who owns what is decided elsewhere.
//
// An address that starts to be owned is announced unasked, by gratuitous ARP
// or an unsolicited neighbor advertisement, so that neighbours and switches
// move at once. An address that ends to be owned is silent when Sync returns:
// the check that an address is owned and the sending of its reply happen under
// one lock, which Sync takes too. A process that was stopped may be late to
// call Sync: then the owner of the addresses closes the Gate, which is looked at
// right before each frame.
//
// Both protocols use one packet socket per link and family. Its filter in the
// kernel passes only requests for owned addresses, so a busy LAN costs
// nothing here. NDP does without an ICMPv6 socket for two reasons. The kernel
// forwards, and never delivers, a unicast solicitation for an address that no
// interface has, so neighbours that verify an entry (RFC 4861, 7.3) would get
// no answer. And it holds an advertisement back while it resolves the asker,
// so that it could leave after the address was given up.
//
// The package also reads a pool's choice of interface (Choose) and says if a
// link can serve a pool (Link.CanServe).
//
// Everything here acts on the network namespace of the process.
package layer2
