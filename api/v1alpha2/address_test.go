package v1alpha2_test

import (
	"errors"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"

	"go4.org/netipx"
	"sigs.k8s.io/yaml"

	"github.com/fairway-lb/fairway/api/v1alpha2"
)

// addressCase is an element of testdata/eip_address_cases.yaml.
type addressCase struct {
	Input       string
	Accepted    bool
	First, Last string // if accepted
	Message     string // the API server's, if not
}

func addressCases(t testing.TB) []addressCase {
	t.Helper()
	text, err := os.ReadFile("testdata/eip_address_cases.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var cases []addressCase
	if err := yaml.UnmarshalStrict(text, &cases); err != nil {
		t.Fatal(err)
	}
	return cases
}

func TestParseAddress(t *testing.T) {
	for _, c := range addressCases(t) {
		t.Run(c.Input, func(t *testing.T) {
			r, err := v1alpha2.ParseAddress(c.Input)
			if !c.Accepted {
				if !errors.Is(err, v1alpha2.ErrAddressFormat) {
					t.Fatalf("got %v, %v; want ErrAddressFormat", r, err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if r.From() != netip.MustParseAddr(c.First) || r.To() != netip.MustParseAddr(c.Last) {
				t.Errorf("got %v, want %s-%s", r, c.First, c.Last)
			}
		})
	}
}

// malformedAddresses are texts that are no pool address, mostly what users
// write instead of one.
func malformedAddresses(t testing.TB) []string {
	t.Helper()
	text, err := os.ReadFile("testdata/malformed_addresses.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var texts []string
	if err := yaml.UnmarshalStrict(text, &texts); err != nil {
		t.Fatal(err)
	}
	return texts
}

func TestMalformedAddresses(t *testing.T) {
	texts := malformedAddresses(t)
	if len(texts) < 200 {
		t.Errorf("%d texts only", len(texts))
	}
	for _, text := range texts {
		if r, err := v1alpha2.ParseAddress(text); !errors.Is(err, v1alpha2.ErrAddressFormat) || r.IsValid() {
			t.Errorf("ParseAddress(%q) = %v, %v", text, r, err)
		}
		for field, spec := range map[string]v1alpha2.EipSpec{
			"spec.address":      {Address: text},
			"spec.addresses[1]": {Address: "10.0.0.1", Addresses: []v1alpha2.PoolAddress{"10.0.0.2", v1alpha2.PoolAddress(text)}},
			"spec.exclude[0]":   {Address: "10.0.0.1", Exclude: []v1alpha2.PoolAddress{v1alpha2.PoolAddress(text)}},
		} {
			blocks, excluded, err := spec.Blocks()
			if !errors.Is(err, v1alpha2.ErrAddressFormat) || blocks != nil || excluded != nil {
				t.Errorf("Blocks of %s %q = %v, %v, %v", field, text, blocks, excluded, err)
			} else if !strings.Contains(err.Error(), field+" "+strconv.Quote(text)) {
				t.Errorf("Blocks of %s %q: %v does not name it", field, text, err)
			}
			if set, err := spec.AddressSet(); !errors.Is(err, v1alpha2.ErrAddressFormat) || set != nil {
				t.Errorf("AddressSet of %s %q = %v, %v", field, text, set, err)
			}
		}
	}
}

func TestBlocks(t *testing.T) {
	spec := v1alpha2.EipSpec{
		Address:   "10.0.0.77/24",
		Addresses: []v1alpha2.PoolAddress{"10.0.1.5", "10.0.2.1-10.0.2.9", "10.0.3.0-10.0.3.255", "2001:DB8::1/64", "10.0.1.5/32"},
		Exclude:   []v1alpha2.PoolAddress{"10.0.0.0/25", "2001:db8::-2001:db8::f"},
	}
	blocks, excluded, err := spec.Blocks()
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, b := range append(blocks, excluded...) {
		if b.Prefix.IsValid() {
			got = append(got, b.Prefix.String())
		} else {
			got = append(got, b.From().String()+"-"+b.To().String())
		}
	}
	want := []string{
		"10.0.0.0/24", "10.0.1.5-10.0.1.5", "10.0.2.1-10.0.2.9", "10.0.3.0-10.0.3.255", "2001:db8::/64", "10.0.1.5/32",
		"10.0.0.0/25", "2001:db8::-2001:db8::f",
	}
	if !slices.Equal(got, want) {
		t.Errorf("got %v\nwant %v: a CIDR is known as one, and as what is spelled out", got, want)
	}
}

func TestAddressSet(t *testing.T) {
	for _, test := range []struct {
		name      string
		address   string
		addresses []v1alpha2.PoolAddress
		exclude   []v1alpha2.PoolAddress
		want      []string // ranges
	}{
		{"one block", "10.0.0.1", nil, nil, []string{"10.0.0.1-10.0.0.1"}},
		{"blocks that touch", "10.0.0.0/25", []v1alpha2.PoolAddress{"10.0.0.128/25", "10.0.1.0"}, nil, []string{"10.0.0.0-10.0.1.0"}},
		{"blocks that overlap", "10.0.0.1-10.0.0.9", []v1alpha2.PoolAddress{"10.0.0.5-10.0.0.20", "10.0.0.1-10.0.0.9"}, nil, []string{"10.0.0.1-10.0.0.20"}},
		{"both families", "10.0.0.1", []v1alpha2.PoolAddress{"2001:db8::1"}, nil, []string{"10.0.0.1-10.0.0.1", "2001:db8::1-2001:db8::1"}},
		{"a hole", "10.0.0.0/24", nil, []v1alpha2.PoolAddress{"10.0.0.10-10.0.0.19"}, []string{"10.0.0.0-10.0.0.9", "10.0.0.20-10.0.0.255"}},
		{"excluded from all blocks that have it", "10.0.0.1-10.0.0.9", []v1alpha2.PoolAddress{"10.0.0.5"}, []v1alpha2.PoolAddress{"10.0.0.5"}, []string{"10.0.0.1-10.0.0.4", "10.0.0.6-10.0.0.9"}},
		{"excluded and elsewhere", "10.0.0.1", nil, []v1alpha2.PoolAddress{"10.9.0.0/16", "::/0"}, []string{"10.0.0.1-10.0.0.1"}},
		{"nothing left", "10.0.0.1", []v1alpha2.PoolAddress{"2001:db8::/64"}, []v1alpha2.PoolAddress{"0.0.0.0/0", "::/0"}, nil},
		{"a host short of a /64", "2001:db8::/64", nil, []v1alpha2.PoolAddress{"2001:db8::"}, []string{"2001:db8::1-2001:db8::ffff:ffff:ffff:ffff"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			set, err := (&v1alpha2.EipSpec{Address: test.address, Addresses: test.addresses, Exclude: test.exclude}).AddressSet()
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, r := range set.Ranges() {
				got = append(got, r.String())
			}
			if !slices.Equal(got, test.want) {
				t.Errorf("got %v, want %v", got, test.want)
			}
		})
	}
}

func FuzzBlocks(f *testing.F) {
	for _, text := range malformedAddresses(f) {
		f.Add("10.0.0.0/24", text, "10.0.0.1")
	}
	for _, c := range addressCases(f) {
		f.Add(c.Input, "10.0.0.0/30", c.Input)
	}
	f.Fuzz(func(t *testing.T, address, more, exclude string) {
		spec := v1alpha2.EipSpec{Address: address, Addresses: []v1alpha2.PoolAddress{v1alpha2.PoolAddress(more)}, Exclude: []v1alpha2.PoolAddress{v1alpha2.PoolAddress(exclude)}}
		blocks, excluded, err := spec.Blocks()
		set, setErr := spec.AddressSet()
		if err != nil {
			if !errors.Is(err, v1alpha2.ErrAddressFormat) || setErr == nil || setErr.Error() != err.Error() {
				t.Fatalf("Blocks: %v, AddressSet: %v", err, setErr)
			}
			return
		}
		if setErr != nil || len(blocks) != 2 || len(excluded) != 1 {
			t.Fatalf("%v, %v, %v", blocks, excluded, setErr)
		}
		for _, b := range append(blocks, excluded...) {
			if b.Prefix.IsValid() && netipx.RangeOfPrefix(b.Prefix) != b.IPRange {
				t.Errorf("%v is not %v", b.Prefix, b.IPRange)
			}
		}
		for _, addr := range []netip.Addr{blocks[0].From(), blocks[0].To(), blocks[1].From(), blocks[1].To()} {
			if set.Contains(addr) == excluded[0].Contains(addr) {
				t.Errorf("%v: in the pool is %v, excluded %v", addr, set.Contains(addr), excluded[0].Contains(addr))
			}
		}
	})
}

func FuzzParseAddress(f *testing.F) {
	for _, c := range addressCases(f) {
		f.Add(c.Input)
	}
	for _, text := range malformedAddresses(f) {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, s string) {
		r, err := v1alpha2.ParseAddress(s)
		if err != nil {
			if !errors.Is(err, v1alpha2.ErrAddressFormat) || r.IsValid() {
				t.Fatalf("ParseAddress(%q) = %v, %v", s, r, err)
			}
			return
		}
		first, last := r.From(), r.To()
		if first.Compare(last) > 0 || first.BitLen() != last.BitLen() {
			t.Errorf("ParseAddress(%q) = %v: not a range of one family", s, r)
		}
		if first.Zone() != "" || last.Zone() != "" || first.Is4In6() || last.Is4In6() {
			t.Errorf("ParseAddress(%q) = %v: not plain addresses", s, r)
		}
		again, err := v1alpha2.ParseAddress(first.String() + "-" + last.String())
		if err != nil || again != r {
			t.Errorf("ParseAddress(%q) = %v, which reads back as %v, %v", s, r, again, err)
		}
	})
}
