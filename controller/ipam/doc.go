// Package ipam decides which Service holds which address of which pool. It
// is pure: values go in, decisions with their reasons come out. It talks to
// nobody, starts nothing, and is to be used by one goroutine.
//
// An address is for life. Whatever happens to pools, a Service keeps what it
// holds; only its owner's changed request moves it, and then the new address
// is taken before the old one is given up: Assign leaves the old one
// reserved, Settle frees it once the new one is written down.
package ipam
