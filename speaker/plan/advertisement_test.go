package plan

import (
	"reflect"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/fairway-lb/fairway/api/v1alpha2"
)

// plainAdvertisement is what an Eip without spec.bgp has, changed.
func plainAdvertisement(change func(*Advertisement)) *Advertisement {
	a := &Advertisement{Length4: 32, Length6: 128, AllPeers: true}
	if change != nil {
		change(a)
	}
	return a
}

func TestParseAdvertisement(t *testing.T) {
	for _, test := range []struct {
		name     string
		spec     *v1alpha2.BgpAdvertisement
		selected []string
		want     *Advertisement
		errs     []string // parts of the error's lines
	}{
		{"no spec.bgp", nil, nil, plainAdvertisement(nil), nil},
		{"an empty one", &v1alpha2.BgpAdvertisement{}, nil, plainAdvertisement(nil), nil},
		{"communities, sorted and each once",
			&v1alpha2.BgpAdvertisement{Communities: []string{"65000:100", "4294967295:0:2", "64999:200", "no-export", "65000:100", "65000:1:2", "0:0"}}, nil,
			plainAdvertisement(func(a *Advertisement) {
				a.Communities = []uint32{0, 64999<<16 | 200, 65000<<16 | 100, 0xffffff01}
				a.LargeCommunities = []LargeCommunity{{65000, 1, 2}, {4294967295, 0, 2}}
			}), nil},
		{"well-known names",
			&v1alpha2.BgpAdvertisement{Communities: []string{"no-export", "no-advertise", "no-export-subconfed", "no-peer", "blackhole", "graceful-shutdown"}}, nil,
			plainAdvertisement(func(a *Advertisement) {
				a.Communities = []uint32{65535 << 16, 65535<<16 | 666, 0xffffff01, 0xffffff02, 0xffffff03, 0xffffff04}
			}), nil},
		{"numbers",
			&v1alpha2.BgpAdvertisement{LocalPref: new(v1alpha2.Uint32(0)), MED: new(v1alpha2.Uint32(4294967295)), ASPathPrepend: 3, AggregationLength: new(int32(24)), AggregationLengthV6: new(int32(64))}, nil,
			plainAdvertisement(func(a *Advertisement) {
				a.LocalPref, a.MED, a.Prepend, a.Length4, a.Length6 = new(uint32(0)), new(uint32(4294967295)), 3, 24, 64
			}), nil},
		{"peers by name", &v1alpha2.BgpAdvertisement{Peers: []string{"b", "a"}}, nil,
			plainAdvertisement(func(a *Advertisement) { a.AllPeers, a.Peers = false, []string{"a", "b"} }), nil},
		{"peers by name and label", &v1alpha2.BgpAdvertisement{Peers: []string{"b"}, PeerSelector: &metav1.LabelSelector{}}, []string{"c", "b", "a"},
			plainAdvertisement(func(a *Advertisement) { a.AllPeers, a.Peers = false, []string{"a", "b", "c"} }), nil},
		{"labels that no peer has", &v1alpha2.BgpAdvertisement{PeerSelector: &metav1.LabelSelector{}}, nil,
			plainAdvertisement(func(a *Advertisement) { a.AllPeers = false }), nil},
		{"typos leave the rest",
			&v1alpha2.BgpAdvertisement{
				Communities:   []string{"65536:1", "1:2", "no-exit", "1:2:3:4", "1:4294967296:0", "", "1:-1", " 1:1"},
				ASPathPrepend: -1, AggregationLength: new(int32(33)), AggregationLengthV6: new(int32(7)), Peers: []string{"a"},
			}, nil,
			plainAdvertisement(func(a *Advertisement) { a.Communities, a.AllPeers, a.Peers = []uint32{1<<16 | 2}, false, []string{"a"} }),
			[]string{
				`spec.bgp.communities[0] "65536:1"`, `spec.bgp.communities[2] "no-exit"`, `spec.bgp.communities[3] "1:2:3:4"`,
				`spec.bgp.communities[4] "1:4294967296:0"`, `spec.bgp.communities[5] ""`, `spec.bgp.communities[6] "1:-1"`, `spec.bgp.communities[7] " 1:1"`,
				"spec.bgp.asPathPrepend -1: needs a number from 0 to 10", "spec.bgp.aggregationLength 33: needs a number from 8 to 32", "spec.bgp.aggregationLengthV6 7: needs a number from 8 to 128",
			}},
	} {
		t.Run(test.name, func(t *testing.T) {
			got, err := ParseAdvertisement(test.spec, test.selected)
			if !equalAdvertisements(got, test.want) {
				t.Errorf("got %+v, want %+v", got, test.want)
			}
			var lines []string
			if err != nil {
				lines = strings.Split(err.Error(), "\n")
			}
			if len(lines) != len(test.errs) {
				t.Fatalf("errors %q, want %d", lines, len(test.errs))
			}
			for i, part := range test.errs {
				if !strings.Contains(lines[i], part) {
					t.Errorf("error %q lacks %q", lines[i], part)
				}
			}
		})
	}
}

// equalAdvertisements compares by value, and takes no list for an empty one.
func equalAdvertisements(a, b *Advertisement) bool {
	filled := func(a Advertisement) Advertisement {
		a.Communities = append([]uint32{}, a.Communities...)
		a.LargeCommunities = append([]LargeCommunity{}, a.LargeCommunities...)
		a.Peers = append([]string{}, a.Peers...)
		return a
	}
	return reflect.DeepEqual(filled(*a), filled(*b))
}

// An Advertisement does not share what it was read from: an object of a cache.
func TestAdvertisementIsItsOwn(t *testing.T) {
	spec := &v1alpha2.BgpAdvertisement{LocalPref: new(v1alpha2.Uint32(1)), Peers: []string{"b", "a"}}
	a, _ := ParseAdvertisement(spec, nil)
	if spec.Peers[0] != "b" {
		t.Error("the spec's peers were sorted in place")
	}
	*spec.LocalPref, spec.Peers[1] = 2, "c"
	if *a.LocalPref != 1 || a.Peers[0] != "a" {
		t.Errorf("changed with its spec: %d, %v", *a.LocalPref, a.Peers)
	}
}

// FuzzParseAdvertisement: whatever is in the object, a route can be made of it.
func FuzzParseAdvertisement(f *testing.F) {
	f.Add("65000:100", int32(3), int32(24), int32(64))
	f.Add("no-export", int32(-1), int32(-1), int32(-1))
	f.Add("1:2:3", int32(1<<30), int32(33), int32(129))
	f.Fuzz(func(t *testing.T, community string, prepend, length4, length6 int32) {
		a, err := ParseAdvertisement(&v1alpha2.BgpAdvertisement{
			Communities: []string{community}, ASPathPrepend: prepend, AggregationLength: &length4, AggregationLengthV6: &length6,
		}, nil)
		if read := len(a.Communities) + len(a.LargeCommunities); read > 1 || read == 0 && err == nil {
			t.Errorf("%q: %d communities, error %v", community, read, err)
		}
		if a.Prepend < 0 || a.Prepend > 10 || a.Length4 < 8 || a.Length4 > 32 || a.Length6 < 8 || a.Length6 > 128 {
			t.Errorf("out of range: %+v", a)
		}
	})
}
