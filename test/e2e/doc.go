// Package e2e tests Fairway as its users meet it: a real API server, one
// kube-proxy and one speaker on every node, a client outside the cluster, and
// real packets between them. It needs root and the programs in the folder
// that FAIRWAY_BIN names; `make test-cluster` builds them.
package e2e
