// Package admission answers the API server: whether an Eip may be written,
// what a warning should tell the user about an object, and how an object looks
// in another version of the API.
//
// ReviewEip, ReviewService, ReviewBgpConf and ReviewBgpPeer decide; the rest
// serves them. Admission is a courtesy: rules about one object are in the CRDs,
// and what admission misses the controller copes with. So nothing here holds up
// anything else. Each controller answers, from its cache, also one that does not
// hold the Lease; before its cache is filled it objects to nothing that takes a
// second object to judge.
package admission
