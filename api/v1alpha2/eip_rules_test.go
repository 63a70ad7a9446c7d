package v1alpha2_test

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/fairway-lb/fairway/api/v1alpha2"
)

// Whatever bounds a schema sets, an object that keeps to them must not be
// refused because the API server spends too long on it.
func TestLargestEipIsAccepted(t *testing.T) {
	blocks := make([]any, 64)
	for i := range blocks {
		blocks[i] = fmt.Sprintf("2001:0db8:0000:0000:0000:ffff:ffff:%04x-2001:0db8:0000:0000:0000:ffff:ffff:ff%02x", i, i)
	}
	namespaces, limits := make([]any, 1024), object{}
	for i := range namespaces {
		namespaces[i] = fmt.Sprintf("%063d", i)
	}
	for i := range 512 {
		limits[fmt.Sprintf("%063d", i)] = int64(i)
	}
	labels, expressions := object{}, make([]any, 100)
	for i := range expressions {
		labels[fmt.Sprintf("example.com/%063d", i)] = strings.Repeat("v", 63)
		expressions[i] = object{"key": fmt.Sprintf("example.com/%063d", i), "operator": "In", "values": []any{strings.Repeat("v", 63), "w"}}
	}
	communities, peers := make([]any, 64), make([]any, 128)
	for i := range communities {
		communities[i] = fmt.Sprintf("4294967295:4294967295:42949672%02d", i)
	}
	for i := range peers {
		peers[i] = fmt.Sprintf("%s.%031d", strings.Repeat("a", 221), i)
	}
	eip := object{
		"apiVersion": v1alpha2.GroupVersion.String(), "kind": "Eip", "metadata": object{"name": "pool"},
		"spec": object{
			"address": blocks[0], "addresses": blocks, "exclude": blocks,
			"sharing": object{"namespaces": namespaces}, "namespaceLimits": limits,
			"serviceSelector": object{"matchLabels": labels, "matchExpressions": expressions},
			"bgp": object{
				"communities": communities, "peers": peers,
				"peerSelector": object{"matchLabels": labels, "matchExpressions": expressions},
			},
		},
	}
	if err := newAPIServer(t).admit(eip, nil); err != nil {
		t.Fatal(err)
	}
}

func TestPoolsGrowAndShrink(t *testing.T) {
	const pool = `{apiVersion: network.kubesphere.io/v1alpha2, kind: Eip, metadata: {name: pool}, spec: {address: 10.0.0.1, %s}}`
	server := newAPIServer(t)
	was := toObject(t, fmt.Sprintf(pool, ""))
	for _, spec := range []string{
		`addresses: [10.0.1.0/24]`,
		`addresses: [10.0.1.0/24, "2001:db8::/64"], exclude: [10.0.1.0-10.0.1.9]`,
		`addresses: ["2001:db8::/64"], exclude: [10.0.1.0-10.0.1.99, 10.0.0.1]`,
		`addresses: []`,
		``,
	} {
		is := toObject(t, fmt.Sprintf(pool, spec))
		if err := server.admit(is, was); err != nil {
			t.Errorf("%s: %v", spec, err)
		}
		was = is
	}
}

// An Eip with a text that time.ParseDuration refuses would make the list of
// all Eips unreadable for the controller.
func TestQuarantine(t *testing.T) {
	server := newAPIServer(t)
	for _, text := range []string{
		"10m", "0s", "0", "24h", "1h30m", "1.5h", "23h59m59.999999999s", "1440m", "86400s", ".5s", "1.s", "500ms", "1us", "1µs", "1μs", "1ns", "00010m", "0h0m0s",
	} {
		if err := server.admitQuarantine(t, text); err != nil {
			t.Errorf("%q: %v", text, err)
		}
	}
	for _, text := range []string{
		"", " ", "10", "1d", "1w", "-5m", "+5m", "-0s", "5", "m", "1", ".", ".s", "10 m", " 10m", "10m ", "10m\n", "10M", "10min", "10minutes", "ten minutes", "1h-5m", "1,5h", "1e3s", "0x1s", "1h 30m", "PT10M", "00:10:00",
		"infinite", "null", "24h1ns", "25h", "1441m", "999999999h", "99999h", "99999999999999999999s", "9223372036854775807ns", "9223372036854775808ns", "1.0000000001s", "１m", "1m1m1m1m1m1m1m", "10m\x00",
		"000000000000000000000000000000000000000000000000000000000000000010m",
	} {
		err := server.admitQuarantine(t, text)
		if err == nil {
			t.Errorf("%q is accepted", text)
		} else if said := err.Error(); !strings.Contains(said, "quarantine must be a duration of 0s to 24h with a unit, such as 10m") && !strings.Contains(said, "Too long") {
			t.Errorf("%q: %v", text, err)
		}
	}
}

func FuzzQuarantine(f *testing.F) {
	for _, text := range []string{"10m", "1h30m", "", "10", "-5m", "1.5h", ".s", "25h", "99999h99999h", "1µs"} {
		f.Add(text)
	}
	server := newAPIServer(f)
	f.Fuzz(func(t *testing.T, text string) {
		if !utf8.ValidString(text) || server.admitQuarantine(t, text) != nil {
			return
		}
		if d, err := time.ParseDuration(text); err != nil || d < 0 || d > 24*time.Hour {
			t.Fatalf("%q is accepted, and is %v, %v", text, d, err)
		}
		if err := server.writeBack(t, quarantined(text)); err != nil {
			t.Errorf("%q: %v", text, err)
		}
	})
}

func (s *apiServer) admitQuarantine(t *testing.T, text string) error {
	t.Helper()
	return s.admit(quarantined(text), nil)
}

func quarantined(text string) object {
	return object{
		"apiVersion": v1alpha2.GroupVersion.String(), "kind": "Eip", "metadata": object{"name": "pool"},
		"spec": object{"address": "10.0.0.1", "quarantine": text},
	}
}

// Keys of namespaceLimits and entries of sharing.namespaces are checked by two
// rules that have to agree.
func TestNamesOfNamespaces(t *testing.T) {
	server := newAPIServer(t)
	long := strings.Repeat("a", 63)
	for name, good := range map[string]bool{
		"*": true, "a": true, "0": true, "a-b": true, "a--b": true, "0a": true, long: true,
		"": false, "**": false, "a*": false, "-": false, "-a": false, "a-": false, "A": false, "a.b": false, "a_b": false, "a/b": false, "a b": false, " a": false,
		"a\n": false, "\n": false, "é": false, "`": false, "{": false, ":": false, "/": false, "@": false, long + "a": false, long[:62] + "-": false, strings.Repeat("a", 5000): false,
	} {
		for field, value := range map[string]any{"namespaceLimits": object{"first": int64(1), name: int64(1)}, "sharing": object{"namespaces": []any{"first", name}}} {
			err := server.admit(object{
				"apiVersion": v1alpha2.GroupVersion.String(), "kind": "Eip", "metadata": object{"name": "pool"},
				"spec": object{"address": "10.0.0.1", field: value},
			}, nil)
			if (err == nil) != good {
				t.Errorf("%s of %q: %v", field, name, err)
			}
		}
	}
}

func TestAddressRulesAgreeWithParseAddress(t *testing.T) {
	server := newAPIServer(t)
	t.Run("cases", func(t *testing.T) {
		for _, c := range addressCases(t) {
			server.compareAddress(t, c.Input, c.Message)
		}
	})
	t.Run("malformed", func(t *testing.T) {
		for _, text := range malformedAddresses(t) {
			server.compareAddress(t, text, v1alpha2.ErrAddressFormat.Error())
		}
	})
	// One pair of addresses for every bit that can decide, both ways round.
	// All lower bits speak for the other order.
	t.Run("order", func(t *testing.T) {
		for _, base := range []string{"10.77.0.255", "2001:db8::ffff:0:1"} {
			addr := netip.MustParseAddr(base)
			for bit := range addr.BitLen() {
				low, high := around(addr, bit)
				server.compareAddress(t, fmt.Sprintf("%v-%v", low, high), "")
				server.compareAddress(t, fmt.Sprintf("%v-%v", high, low), v1alpha2.ErrAddressFormat.Error())
				if _, err := v1alpha2.ParseAddress(fmt.Sprintf("%v-%v", low, high)); err != nil {
					t.Errorf("%v-%v: %v", low, high, err)
				}
			}
		}
	})
}

func FuzzAddressRules(f *testing.F) {
	for _, c := range addressCases(f) {
		f.Add(c.Input)
	}
	for _, text := range malformedAddresses(f) {
		f.Add(text)
	}
	server := newAPIServer(f)
	f.Fuzz(func(t *testing.T, text string) {
		if utf8.ValidString(text) && len(text) <= 128 {
			server.compareAddress(t, text, v1alpha2.ErrAddressFormat.Error())
		}
	})
}

// FuzzRangeRules is FuzzAddressRules for ranges only, which the fuzzer hardly
// finds by itself.
func FuzzRangeRules(f *testing.F) {
	f.Add([]byte{10, 0, 0, 1}, []byte{10, 0, 0, 2})
	f.Add(netip.MustParseAddr("2001:db8::1").AsSlice(), netip.MustParseAddr("2001:db8::2").AsSlice())
	server := newAPIServer(f)
	f.Fuzz(func(t *testing.T, from, to []byte) {
		first, ok := netip.AddrFromSlice(from)
		last, ok2 := netip.AddrFromSlice(to)
		if ok && ok2 {
			server.compareAddress(t, fmt.Sprintf("%v-%v", first, last), v1alpha2.ErrAddressFormat.Error())
		}
	})
}

// compareAddress fails the test if the API server and ParseAddress differ on
// text in any field that holds addresses, or if a refusal does not say message.
func (s *apiServer) compareAddress(t *testing.T, text, message string) {
	t.Helper()
	_, err := v1alpha2.ParseAddress(text)
	for field, spec := range map[string]object{
		"spec.address":      {"address": text},
		"spec.addresses[1]": {"address": "10.0.0.1", "addresses": []any{"10.0.0.2", text}},
		"spec.exclude[0]":   {"address": "10.0.0.1", "exclude": []any{text, "10.0.0.2"}},
	} {
		refused := s.admit(object{"apiVersion": v1alpha2.GroupVersion.String(), "kind": "Eip", "metadata": object{"name": "pool"}, "spec": spec}, nil)
		if (err == nil) != (refused == nil) {
			t.Errorf("%s %q: the API server says %v, ParseAddress %v", field, text, refused, err)
		}
		if refused != nil && (!strings.Contains(refused.Error(), message) || !strings.HasPrefix(refused.Error(), field+":")) {
			t.Errorf("%s %q: got %v, want %s", field, text, refused, message)
		}
	}
}

// around returns the addresses that share addr's bits before bit, the first of
// which goes on with 0111..., the second with 1000....
func around(addr netip.Addr, bit int) (low, high netip.Addr) {
	lower, upper := addr.AsSlice(), addr.AsSlice()
	for i := bit; i < addr.BitLen(); i++ {
		mask := byte(0x80 >> (i % 8))
		if i == bit {
			lower[i/8] &^= mask
			upper[i/8] |= mask
		} else {
			lower[i/8] |= mask
			upper[i/8] &^= mask
		}
	}
	low, _ = netip.AddrFromSlice(lower)
	high, _ = netip.AddrFromSlice(upper)
	return low, high
}
