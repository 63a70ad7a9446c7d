// Package measure counts what the controller costs an API server, the machine
// and the Services that wait: the benchmarks and the tests of scale read the
// same figures.
package measure
