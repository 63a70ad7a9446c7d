package v1alpha2_test

import (
	"errors"
	"net/netip"
	"os"
	"testing"

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

func FuzzParseAddress(f *testing.F) {
	for _, c := range addressCases(f) {
		f.Add(c.Input)
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
