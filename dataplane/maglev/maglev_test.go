package maglev

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
)

// some returns n endpoints of a random cluster, in no order.
func some(r *rand.Rand, n int) []netip.AddrPort {
	list := make([]netip.AddrPort, 0, n)
	for len(list) < n {
		e := netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 244, byte(r.IntN(8)), byte(r.IntN(256))}), 8080)
		if !slices.Contains(list, e) {
			list = append(list, e)
		}
	}
	return list
}

func table(t testing.TB, endpoints []netip.AddrPort, size int) Table {
	t.Helper()
	made, err := New(endpoints, size)
	if err != nil {
		t.Fatal(err)
	}
	return made
}

func parse(texts ...string) (list []netip.AddrPort) {
	for _, text := range texts {
		list = append(list, netip.MustParseAddrPort(text))
	}
	return list
}

// TestPaper follows the paper's example, of the preferences that it has:
// B0 (3, 4), B1 (0, 2) and B2 (3, 1), of 7 slots.
func TestPaper(t *testing.T) {
	b := []permutation{{3, 4}, {0, 2}, {3, 1}}
	if got, want := take(b, 7), []int32{1, 0, 1, 0, 2, 2, 0}; !slices.Equal(got, want) {
		t.Errorf("slots %v, want %v", got, want)
	}
	// Without B1, as in the paper's next column.
	if got, want := take([]permutation{{3, 4}, {3, 1}}, 7), []int32{0, 0, 0, 0, 1, 1, 1}; !slices.Equal(got, want) {
		t.Errorf("without B1 slots %v, want %v", got, want)
	}
}

// TestFixed has nodes of different versions agree: a table is the same for
// ever.
func TestFixed(t *testing.T) {
	for _, test := range []struct {
		endpoints []netip.AddrPort
		want      string
	}{
		{parse("10.0.0.1:80", "10.0.0.2:80", "10.0.0.3:80"), "1e4f7d0e69359caf"},
		{parse("[fd00::1]:53", "[fd00::2]:53"), "2f94f05bb794f3ba"},
	} {
		sum := sha256.New()
		for _, slot := range table(t, test.endpoints, DefaultSize).Slots {
			sum.Write(binary.BigEndian.AppendUint32(nil, uint32(slot)))
		}
		if got := fmt.Sprintf("%x", sum.Sum(nil)[:8]); got != test.want {
			t.Errorf("the table of %v has the digest %s, want %s: nodes that are not upgraded yet disagree", test.endpoints, got, test.want)
		}
	}
}

func TestOrderDoesNotMatter(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	endpoints := some(r, 20)
	want := table(t, endpoints, DefaultSize)
	if !slices.IsSortedFunc(want.Endpoints, netip.AddrPort.Compare) {
		t.Error("Endpoints are not sorted")
	}
	for range 10 {
		r.Shuffle(len(endpoints), func(i, j int) { endpoints[i], endpoints[j] = endpoints[j], endpoints[i] })
		given := slices.Clone(endpoints)
		if got := table(t, append(endpoints, endpoints[0]), DefaultSize); !slices.Equal(got.Slots, want.Slots) || !slices.Equal(got.Endpoints, want.Endpoints) {
			t.Fatal("another order, or an endpoint twice, makes another table")
		}
		if !slices.Equal(given, endpoints) {
			t.Fatal("the argument is changed")
		}
	}
}

func TestFew(t *testing.T) {
	if empty := table(t, nil, 7); empty.Len() != 0 {
		t.Errorf("a table of no endpoints has %d slots", empty.Len())
	}
	one := table(t, parse("10.0.0.1:80"), 7)
	for slot := range one.Len() {
		if one.Len() != 7 || one.At(slot) != parse("10.0.0.1:80")[0] {
			t.Errorf("slot %d of %d leads to %v", slot, one.Len(), one.At(slot))
		}
	}
	if smallest := table(t, parse("10.0.0.1:80", "10.0.0.2:80"), 2); smallest.At(0) == smallest.At(1) {
		t.Error("two endpoints do not share two slots")
	}
	if crowded := table(t, parse("10.0.0.1:80", "10.0.0.2:80", "10.0.0.3:80"), 2); crowded.Len() != 2 || slices.Contains(crowded.Slots, 2) {
		t.Errorf("more endpoints than slots: %v", crowded.Slots)
	}
	if mapped := table(t, parse("[::ffff:10.0.0.1]:80", "10.0.0.1:80"), 7); len(mapped.Endpoints) != 1 {
		t.Errorf("an IPv4-mapped address is another endpoint: %v", mapped.Endpoints)
	}
}

func TestSize(t *testing.T) {
	for _, size := range []int{-7, 0, 1, 4, 4094, MaxSize + 1, 1 << 62} {
		if _, err := New(parse("10.0.0.1:80"), size); err == nil {
			t.Errorf("a table of %d slots", size)
		}
	}
	for _, size := range []int{2, 3, DefaultSize, MaxSize} {
		if _, err := New(nil, size); err != nil {
			t.Error(err)
		}
	}
}

func TestBalance(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	for _, n := range []int{1, 2, 3, 7, 40, 100, 1000} {
		a := table(t, some(r, n), DefaultSize)
		counts := make([]int, n)
		for _, slot := range a.Slots {
			counts[slot]++
		}
		if low, high := slices.Min(counts), slices.Max(counts); high-low > 1 {
			t.Errorf("%d endpoints have %d to %d slots", n, low, high)
		} else if ratio := float64(low) / float64(high); n <= 40 && ratio < 0.99 {
			t.Errorf("%d endpoints: min/max share %.3f", n, ratio)
		}
	}
}

// TestDisruption takes an endpoint away and puts it back: of the slots that it
// never had, fewer than 2/N move.
func TestDisruption(t *testing.T) {
	for _, test := range []struct{ size, most int }{{DefaultSize, 60}, {16381, 100}} {
		for _, n := range []int{2, 3, 5, 10, 20, 40, 60, 100} {
			if n > test.most {
				continue
			}
			for seed := range uint64(3) {
				r := rand.New(rand.NewPCG(seed, 5))
				with := table(t, some(r, n), test.size)
				gone := with.Endpoints[r.IntN(n)]
				without := table(t, slices.DeleteFunc(slices.Clone(with.Endpoints), func(e netip.AddrPort) bool { return e == gone }), test.size)
				for name, diff := range map[string][]Change{"removing": Diff(with, without), "adding": Diff(without, with)} {
					moved, own := 0, 0
					for _, c := range diff {
						if c.Before == gone || c.After == gone {
							own++
						} else {
							moved++
						}
					}
					share := float64(moved) / float64(test.size-own)
					if share >= 2/float64(n) {
						t.Errorf("%s one of %d endpoints moves %.4f of the other flows of %d slots, want less than 2/N", name, n, share, test.size)
					}
					if want := test.size / n; own < want || own > want+1 {
						t.Errorf("%s one of %d endpoints moves %d slots of its own, want %d", name, n, own, want)
					}
				}
			}
		}
	}
}

// TestDiff makes the changes to a table, which is then the next.
func TestDiff(t *testing.T) {
	r := rand.New(rand.NewPCG(6, 7))
	before := Table{}
	for _, n := range []int{0, 1, 1, 3, 2, 30, 31, 0, 5} {
		for _, size := range []int{509, 1021} {
			after := table(t, some(r, n), size)
			changed := map[int]Change{}
			last := -1
			for _, c := range Diff(before, after) {
				if changed[c.Slot] = c; c.Slot <= last || c.Before == c.After && before.Len() == after.Len() {
					t.Fatalf("change %+v after that of slot %d", c, last)
				}
				last = c.Slot
			}
			at := func(table Table, slot int) (e netip.AddrPort) {
				if slot < table.Len() {
					e = table.At(slot)
				}
				return e
			}
			for slot := range max(before.Len(), after.Len()) {
				if c, moved := changed[slot]; moved && (c.Before != at(before, slot) || c.After != at(after, slot)) || !moved && at(before, slot) != at(after, slot) {
					t.Fatalf("slot %d leads from %v to %v, the difference is %+v", slot, at(before, slot), at(after, slot), c)
				}
			}
			if same := Diff(after, after); len(same) > 0 {
				t.Errorf("%d slots differ from themselves", len(same))
			}
			before = after
		}
	}
}

func FuzzNew(f *testing.F) {
	f.Add([]byte{10, 0, 0, 1, 10, 0, 0, 2}, 7)
	f.Fuzz(func(t *testing.T, addrs []byte, size int) {
		var endpoints []netip.AddrPort
		for chunk := range slices.Chunk(addrs, 4) {
			if len(chunk) == 4 {
				endpoints = append(endpoints, netip.AddrPortFrom(netip.AddrFrom4([4]byte(chunk)), uint16(chunk[0])))
			}
		}
		made, err := New(endpoints, size)
		if err != nil || len(endpoints) == 0 {
			return
		}
		for _, e := range made.Endpoints {
			if !slices.Contains(endpoints, e) {
				t.Fatalf("endpoint %v", e)
			}
		}
		for slot, i := range made.Slots {
			if i < 0 || int(i) >= len(made.Endpoints) {
				t.Fatalf("slot %d leads to %d of %d", slot, i, len(made.Endpoints))
			}
		}
	})
}

func BenchmarkNew(b *testing.B) {
	for _, n := range []int{3, 40, 1000} {
		endpoints := some(rand.New(rand.NewPCG(8, 9)), n)
		b.Run(fmt.Sprintf("endpoints=%d", n), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				table(b, endpoints, DefaultSize)
			}
		})
	}
}

func BenchmarkDiff(b *testing.B) {
	endpoints := some(rand.New(rand.NewPCG(8, 9)), 41)
	before, after := table(b, endpoints[:40], DefaultSize), table(b, endpoints[1:], DefaultSize)
	b.ReportAllocs()
	for b.Loop() {
		Diff(before, after)
	}
}
