// Package conntrack deletes the conntrack entries that would keep UDP clients
// at endpoints that serve no longer.
//
// The kernel translates the first datagram of a flow, and all others by the
// entry that the first one made, which lasts for as long as they go on. A client
// that sends from the same port never meets newer rules: it talks to an endpoint
// that is gone, or to a Service address that led nowhere at first. TCP and SCTP
// have connections, which end: their entries are not touched.
//
// Cleaner is told of changes to service ports and deletes what is stale by
// them.
package conntrack
