package ipvs

import (
	"os"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"

	"github.com/fairway-lb/fairway/internal/netnstest"
)

// What could not subscribe may do so later, and what has subscribed ends with
// news that nobody reads.
func TestSubscribe(t *testing.T) {
	netnstest.Need(t)
	file, err := os.Open(os.DevNull)
	must(t, err)
	defer file.Close()
	w := &watch{namespace: netns.NsHandle(file.Fd())}
	if err := w.subscribe(); err == nil || w.news != nil {
		t.Fatalf("where there is no namespace: %v, %v", err, w.news)
	}
	w.unsubscribe()

	w.namespace, err = netns.Get()
	must(t, err)
	defer w.namespace.Close()
	lo, err := netlink.LinkByName("lo")
	must(t, err)
	for range 2 {
		must(t, w.subscribe())
		news := w.news
		for _, addr := range []string{"198.18.77.1/32", "198.18.77.2/32"} {
			a, err := netlink.ParseAddr(addr)
			must(t, err)
			must(t, netlink.AddrAdd(lo, a))
			must(t, netlink.AddrDel(lo, a))
		}
		<-news
		w.unsubscribe()
		if _, open := <-news; open || w.news != nil {
			t.Error("there are news after the end")
		}
	}
}

// The endpoint that is due first is not put off by others.
func TestWakeAt(t *testing.T) {
	w := &watch{wake: time.NewTimer(time.Hour)}
	begin := time.Now()
	for _, test := range []struct{ at, due time.Duration }{
		{4 * time.Hour, 4 * time.Hour},
		{5 * time.Hour, 4 * time.Hour},
		{3 * time.Hour, 3 * time.Hour},
		{4 * time.Hour, 3 * time.Hour},
	} {
		w.wakeAt(begin.Add(test.at))
		if got := w.due.Sub(begin); got != test.due {
			t.Errorf("at %v: due at %v, want %v", test.at, got, test.due)
		}
	}
	w.wakeAt(begin)
	<-w.wake.C
	if waited := time.Since(begin); waited < pause {
		t.Errorf("what is due at once was in %v, before others could join it", waited)
	}
}
