package v1alpha2

// Hub marks the version that is stored, and that others are converted to and
// from (controller-runtime's conversion.Hub).
func (*Eip) Hub() {}

// Hub marks the version that is stored.
func (*BgpConf) Hub() {}

// Hub marks the version that is stored.
func (*BgpPeer) Hub() {}
