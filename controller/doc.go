// Package controller gives addresses of Eips to Services.
//
// One worker does everything: it owns the allocator (package ipam), so there
// is no lock, and every decision sees the result of the one before. Before
// its first decision it adopts the address of every Service that has one.
// The truth about allocations is in the Services: their ingress, and the
// label and finalizer that say that the ingress is ours. Everything that the
// worker knows beside it can be lost at any moment.
package controller
