package v1alpha2_test

import (
	"errors"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/fairway-lb/fairway/api/v1alpha2"
)

func TestParseCommunity(t *testing.T) {
	standard := func(high, low uint32) v1alpha2.Community { return v1alpha2.Community{Standard: high<<16 | low} }
	large := func(numbers ...uint32) v1alpha2.Community {
		return v1alpha2.Community{IsLarge: true, Large: [3]uint32(numbers)}
	}
	for text, want := range map[string]v1alpha2.Community{
		"65000:100":                        standard(65000, 100),
		"0:0":                              standard(0, 0),
		"65535:65535":                      standard(65535, 65535),
		"65000:1:2":                        large(65000, 1, 2),
		"0:0:0":                            large(0, 0, 0),
		"4294967295:0:65536":               large(4294967295, 0, 65536),
		"no-export":                        standard(65535, 65281),
		"no-advertise":                     standard(65535, 65282),
		"no-export-subconfed":              standard(65535, 65283),
		"no-peer":                          standard(65535, 65284),
		"blackhole":                        standard(65535, 666),
		"graceful-shutdown":                standard(65535, 0),
		"4294967295:4294967295:4294967295": large(4294967295, 4294967295, 4294967295),
	} {
		if got, err := v1alpha2.ParseCommunity(text); err != nil || got != want {
			t.Errorf("%s: got %+v, %v, want %+v", text, got, err, want)
		}
	}
	for _, text := range notCommunities {
		_, err := v1alpha2.ParseCommunity(text)
		if !errors.Is(err, v1alpha2.ErrCommunityFormat) || !strings.Contains(err.Error(), "no-export") {
			t.Errorf("%q: got %v, want %v", text, err, v1alpha2.ErrCommunityFormat)
		}
	}
}

var notCommunities = []string{
	"", " ", ":", "::", "65000", "4259840100", "65000:", ":100", "65000:100:", "65000:100:1:2", "65536:0", "0:65536", "1:2:4294967296", "1:2:99999999999999999999",
	"065000:100", "65000:0100", "00:0", "1:2:03", "-1:0", "+1:0", "1:-2:3", "1.5:2", "0x1:2", "1e3:2", "1_0:2", "a:b", "65000:100 ", " 65000:100", "65000: 100", "65000:100\n", "65000,100", "1:2;3:4", "１:2",
	"internet", "NO_EXPORT", "No-Export", "no-export ", "no_export", "no-export-subconfed-", "llgr-stale", "rt:65000:1", "target:65000:1", "65535:graceful-shutdown",
}

// The rule of the CRD and ParseCommunity accept the same texts.
func TestCommunityRuleAgreesWithParseCommunity(t *testing.T) {
	server := newAPIServer(t)
	for _, text := range notCommunities {
		server.compareCommunity(t, text)
	}
	for _, number := range []string{"0", "9", "10", "65535", "65536", "99999", "100000", "4294967295", "4294967296", "9999999999", "10000000000"} {
		for _, text := range []string{number + ":0", "0:" + number, number + ":0:0", "0:" + number + ":0", "0:0:" + number} {
			server.compareCommunity(t, text)
		}
	}
}

func FuzzCommunityRule(f *testing.F) {
	for _, text := range append(notCommunities, "65000:100", "65000:1:2", "4294967295:4294967295:4294967295", "blackhole") {
		f.Add(text)
	}
	server := newAPIServer(f)
	f.Fuzz(func(t *testing.T, text string) {
		if utf8.ValidString(text) {
			server.compareCommunity(t, text)
		}
	})
}

func (s *apiServer) compareCommunity(t *testing.T, text string) {
	t.Helper()
	_, err := v1alpha2.ParseCommunity(text)
	refused := s.admit(object{
		"apiVersion": v1alpha2.GroupVersion.String(), "kind": "Eip", "metadata": object{"name": "pool"},
		"spec": object{"address": "10.0.0.1", "bgp": object{"communities": []any{text}}},
	}, nil)
	if (err == nil) != (refused == nil) {
		t.Errorf("%q: the API server says %v, ParseCommunity %v", text, refused, err)
	}
	if refused != nil && !strings.HasPrefix(refused.Error(), "spec.bgp.communities[0]: ") {
		t.Errorf("%q: %v", text, refused)
	}
}
