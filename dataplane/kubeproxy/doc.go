// Package kubeproxy finds a kube-proxy on this node, and removes what one that
// is gone has left in the kernel.
//
// Detect tells whether one runs. Then the node has its service proxy, and a
// second would only be in its way. Leftovers names what a kube-proxy of any
// mode has put into the kernel, which stays there when it ends, and Remove
// removes that and nothing else.
//
// Two things are the caller's. Rules of its own that translate are in the
// kernel before it calls Remove, in each family: with the last such rule, the
// kernel stops to track connections, and to translate established ones, too.
// And where the policy of FORWARD is DROP, it was the chain KUBE-FORWARD that
// let packets of Services pass.
//
// With that, connections that kube-proxy translated by iptables or nftables go
// on as they were, because their translation is in conntrack. Those that IPVS
// forwarded end: what IPVS knows of them goes with its virtual services.
package kubeproxy
