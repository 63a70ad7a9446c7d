package v1alpha2

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// ErrCommunityFormat is returned for a text that is no BGP community.
var ErrCommunityFormat = errors.New("not a standard community such as 65000:100, a large one such as 65000:1:2, or a well-known name such as no-export")

// Community is a BGP community: a standard one (RFC 1997) or a large one
// (RFC 8092).
//
// +kubebuilder:object:generate=false
type Community struct {
	// Standard is the 4 octets of a standard community. It is 0 for a large
	// one.
	Standard uint32
	// IsLarge says that the community is Large.
	IsLarge bool
	// Large is the global administrator and the two parts of local data of a
	// large community.
	Large [3]uint32
}

// ParseCommunity reads an element of BgpAdvertisement.Communities. Numbers have
// no leading zeros, so that one community has one spelling, besides those that
// have a name. The error wraps ErrCommunityFormat.
func ParseCommunity(text string) (Community, error) {
	if standard, ok := wellKnown(text); ok {
		return Community{Standard: standard}, nil
	}
	parts := strings.Split(text, ":")
	var numbers [3]uint32
	for i := range min(len(parts), len(numbers)) {
		n, err := strconv.ParseUint(parts[i], 10, 32)
		if err != nil || strconv.FormatUint(n, 10) != parts[i] {
			return Community{}, fmt.Errorf("%q: %w", text, ErrCommunityFormat)
		}
		numbers[i] = uint32(n)
	}
	switch {
	case len(parts) == 3:
		return Community{IsLarge: true, Large: numbers}, nil
	case len(parts) == 2 && numbers[0] <= 0xFFFF && numbers[1] <= 0xFFFF:
		return Community{Standard: numbers[0]<<16 | numbers[1]}, nil
	}
	return Community{}, fmt.Errorf("%q: %w", text, ErrCommunityFormat)
}

// wellKnown returns the communities that BgpAdvertisement.Communities has names
// for, which are those of IANA's registry.
func wellKnown(name string) (standard uint32, ok bool) {
	switch name {
	case "graceful-shutdown": // RFC 8326
		return 0xFFFF0000, true
	case "blackhole": // RFC 7999
		return 0xFFFF029A, true
	case "no-export": // RFC 1997
		return 0xFFFFFF01, true
	case "no-advertise": // RFC 1997
		return 0xFFFFFF02, true
	case "no-export-subconfed": // RFC 1997
		return 0xFFFFFF03, true
	case "no-peer": // RFC 3765
		return 0xFFFFFF04, true
	}
	return 0, false
}
