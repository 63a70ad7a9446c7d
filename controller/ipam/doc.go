// Package ipam decides which Service holds which address of which pool. It
// is pure: values go in, decisions with their reasons come out. It talks to
// nobody, starts nothing, takes the clock as an argument, and is to be used by
// one goroutine.
//
// An address is for life. Whatever happens to pools, a Service keeps what it
// holds; only its owner's changed request moves it, and then the new address
// is taken before the old one is given up: Assign leaves the old one
// reserved, Settle frees it once the new one is written down. The exception
// is a pool that is removed by force (Pool.Rehome).
//
// A refusal says what is missing and what would help: to a reader in its
// message, to the caller as the pools, addresses and times to wait for
// (Refusal). CouldServe and the lists of affected Services say the same of
// pools that change.
package ipam
