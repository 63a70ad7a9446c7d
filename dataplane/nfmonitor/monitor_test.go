package nfmonitor

import (
	"os/exec"
	"strings"
	"testing"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"

	"github.com/fairway-lb/fairway/internal/netnstest"
)

func TestMain(m *testing.M) { netnstest.Main(m) }

func TestMonitor(t *testing.T) {
	heard := make(chan netlink.Message, 100)
	m, err := Start(func(messages []netlink.Message, lost bool) {
		if lost {
			t.Error("news were lost")
		}
		for _, msg := range messages {
			heard <- msg
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("nft", "add", "table", "ip", "somebodys")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	first := <-heard
	kind := int(first.Header.Type)
	if kind != unix.NFNL_SUBSYS_NFTABLES<<8|unix.NFT_MSG_NEWTABLE || !strings.Contains(string(first.Data), "somebodys") {
		t.Errorf("heard of %#x: %q", kind, first.Data)
	}
	if got := int(first.Header.PID); got != cmd.Process.Pid {
		t.Errorf("it was port %d, want %d", got, cmd.Process.Pid)
	}
	if err := m.Close(); err != nil {
		t.Error(err)
	}
	<-m.Done()
}
