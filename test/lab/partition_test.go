package lab

import (
	"context"
	"testing"
	"time"
)

func TestPartitionCutsOnePair(t *testing.T) {
	l := newLab(t, 2)
	ctx := testContext(t, routerPatience)
	r := addRouter(t, ctx, l, RouterOptions{Kind: NoDaemon})
	n1, n2 := l.Node("n1"), l.Node("n2")
	reaches := func(a, b *Host) bool {
		ctx, cancel := context.WithTimeout(ctx, 500*time.Millisecond)
		defer cancel()
		_, err := reach(ctx, a, b, b.Addr6())
		return err == nil
	}
	_, err := reach(ctx, n1, r.Host, r.Addr6())
	must(t, err)
	must(t, l.Partition(n1, r.Host))
	if reaches(n1, r.Host) || reaches(r.Host, n1) {
		t.Error("frames pass between the two that are partitioned")
	}
	for _, pair := range [][2]*Host{{n1, n2}, {n2, r.Host}, {r.Host, n2}, {l.Client(), r.Host}} {
		if _, err := reach(ctx, pair[0], pair[1], pair[1].Addr4()); err != nil {
			t.Errorf("%s does not reach %s: %v", pair[0].Name(), pair[1].Name(), err)
		}
	}
	must(t, l.Partition(n2, r.Host))
	must(t, l.Heal(r.Host, n1))
	if _, err := reach(ctx, n1, r.Host, r.Addr6()); err != nil {
		t.Errorf("after the partition: %v", err)
	}
	if reaches(n2, r.Host) {
		t.Error("the end of one partition ended the other")
	}
}
