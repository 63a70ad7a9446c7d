// Package sysctl sees to it that a node's kernel is set as a service proxy
// needs it: that it forwards, has room for connections, and forgets them when
// Kubernetes expects it to.
//
// ReadNode looks at the node, Wanted says which settings it is to have, and
// Apply makes it so. Values and reasons are those of kube-proxy, unless a
// comment says otherwise. Nothing is set back in the end: who else relies on a
// setting by then cannot be known.
package sysctl
