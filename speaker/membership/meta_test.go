package membership

import (
	"fmt"
	"testing"
)

func TestMetaSaysWhichPoolsAreServed(t *testing.T) {
	meta, left := encodeMeta([]string{"b", "a", "a"})
	m := Member{served: decodeMeta(meta)}
	if left != 0 || len(meta) != 1+2*scopeHashLen || !m.Serves("a") || !m.Serves("b") || m.Serves("c") || m.Serves("") {
		t.Errorf("meta %x, left %d, decoded %v", meta, left, m.served)
	}
	if (Member{}).Serves("a") {
		t.Error("a member of which nothing is known serves a pool")
	}
}

// Gossip panics with meta of more than 512 bytes.
func TestMetaOfTooManyPools(t *testing.T) {
	var pools []string
	for i := range 200 {
		pools = append(pools, fmt.Sprintf("pool-%03d", 199-i))
	}
	meta, left := encodeMeta(pools)
	if len(meta) > metaSize || left != 200-maxScopes {
		t.Errorf("%d bytes, %d left", len(meta), left)
	}
	m := Member{served: decodeMeta(meta)}
	for i := range 200 {
		if got, want := m.Serves(fmt.Sprintf("pool-%03d", i)), i < maxScopes; got != want {
			t.Errorf("Serves(pool-%03d) = %v", i, got)
		}
	}
}

func TestUnknownMetaServesNothing(t *testing.T) {
	for name, meta := range map[string][]byte{
		"none":          nil,
		"other version": {2, 0, 0, 0, 1},
		"cut":           {1, 0, 0, 0},
		"descending":    {1, 0, 0, 0, 2, 0, 0, 0, 1},
		"repeated":      {1, 0, 0, 0, 2, 0, 0, 0, 2},
		"too long":      make([]byte, metaSize+1),
	} {
		if served := decodeMeta(meta); len(served) > 0 {
			t.Errorf("%s: serves %v", name, served)
		}
	}
}

func FuzzDecodeMeta(f *testing.F) {
	meta, _ := encodeMeta([]string{"a", "b"})
	f.Add(meta, "a")
	f.Add([]byte{2}, "")
	f.Fuzz(func(t *testing.T, meta []byte, pool string) {
		m := Member{served: decodeMeta(meta)}
		if m.Serves(pool) && len(meta) < 1+scopeHashLen {
			t.Errorf("meta %x serves %q", meta, pool)
		}
	})
}
