// Package bfd watches the paths to neighbors by Bidirectional Forwarding
// Detection: asynchronous mode (RFC 5880), over one hop (RFC 5881) and over
// several (RFC 5883), for IPv4 and IPv6. There is no authentication, no echo
// function, and no demand mode of its own; a neighbor's is honoured.
//
// A Server is told the whole set of sessions that are wanted (Server.Set) and
// tells of changes by Options.Notify. What depends on a path asks one thing of
// it, Event.Lost: whether the path is gone, or only its observation. The
// difference matters because neighbors take sessions down and make them anew
// for reasons of their own: FRR does when it learns the source address of a BGP
// session, and every daemon does when it is restarted.
//
// Codec (packet.go) and state machine (machine.go) are pure. One thread, in
// engine.go, owns all sessions: it reads what has arrived, then looks at the
// clock. So a process that was not scheduled for a while takes no neighbor for
// lost whose packets are waiting in the socket.
package bfd
