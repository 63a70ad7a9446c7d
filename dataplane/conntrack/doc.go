// Package conntrack deletes the conntrack entries that would keep clients at
// endpoints that serve no longer.
//
// The kernel translates the first packet of a flow, and all others by the entry
// that the first one made. A UDP client that sends from the same port never
// meets newer rules: it talks to an endpoint that is gone, or to a Service
// address that led nowhere at first.
//
// TCP and SCTP have connections, which end: those that were answered are not
// touched. One that was begun to an endpoint just before that went is never
// answered, and each SYN that the client sends again goes the same way; so does
// a later connection of the same port of the client, for two minutes
// (nf_conntrack_tcp_timeout_syn_sent). Without the entry, the next SYN meets the
// endpoints that there are.
//
// Cleaner is told of changes to service ports and deletes what is stale by
// them.
package conntrack
