// Package healthcheck answers who asks whether this node is to get traffic.
//
// NodePorts answers external load balancers, on the health-check node port of
// each Service with externalTrafficPolicy Local: does this node have an
// endpoint of it. Proxy answers /healthz and /livez: does the service proxy
// keep up with what changes, and is the node to stay. Both answer byte for
// byte as kube-proxy does.
package healthcheck
