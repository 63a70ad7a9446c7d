// Go's listeners are of MPTCP where the kernel has it, and such a socket takes no
// TCP MD5 password. The program that this is for says the same.

//go:debug multipathtcp=0
package bgp
