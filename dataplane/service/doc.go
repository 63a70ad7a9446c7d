// Package service reads Services, EndpointSlices and Nodes into what a node
// needs to know of them. It is the one place in Fairway where endpoints are
// counted: the dataplane and the speaker's plan ask here.
//
// ReadEndpoints answers the plan: on which nodes a Service has endpoints.
//
// State answers the dataplane. It is told what happens to Services,
// EndpointSlices and this Node, and hands on which service ports are to be
// programmed otherwise than before: values without a trace of Kubernetes
// objects, that a backend makes the kernel equal to. What it is told costs
// work in proportion to what follows from it, and the order in which it is
// told makes no difference.
package service
