package measure

import (
	"os/exec"
	"slices"
	"testing"
	"time"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

func TestSyncingIsOfTheLongestFamily(t *testing.T) {
	took, err := KubeProxy.parse(`
# TYPE kubeproxy_sync_proxy_rules_duration_seconds histogram
kubeproxy_sync_proxy_rules_duration_seconds_bucket{ip_family="IPv4",le="+Inf"} 2
kubeproxy_sync_proxy_rules_duration_seconds_sum{ip_family="IPv4"} 1.5
kubeproxy_sync_proxy_rules_duration_seconds_count{ip_family="IPv4"} 2
kubeproxy_sync_proxy_rules_duration_seconds_bucket{ip_family="IPv6",le="+Inf"} 2
kubeproxy_sync_proxy_rules_duration_seconds_sum{ip_family="IPv6"} 0.25
kubeproxy_sync_proxy_rules_duration_seconds_count{ip_family="IPv6"} 2
`)
	if err != nil || took != 1500*time.Millisecond {
		t.Errorf("got %v, %v", took, err)
	}
	if _, err := Dataplane.parse(""); err == nil {
		t.Error("no metrics are no error")
	}
}

// The elements of a message are counted, not the messages.
func TestNFTablesChanges(t *testing.T) {
	elements := func(n int) []byte {
		e := netlink.NewAttributeEncoder()
		e.String(unix.NFTA_SET_ELEM_LIST_TABLE, "t")
		e.Nested(unix.NFTA_SET_ELEM_LIST_ELEMENTS, func(list *netlink.AttributeEncoder) error {
			for range n {
				list.Bytes(unix.NFTA_LIST_ELEM, []byte{0, 0, 0, 0})
			}
			return nil
		})
		data, err := e.Encode()
		if err != nil {
			t.Fatal(err)
		}
		return data
	}
	var c NFTablesChanges
	for _, m := range []struct {
		kind uint16
		data []byte
	}{
		{unix.NFT_MSG_NEWSETELEM, elements(3)},
		{unix.NFT_MSG_DELSETELEM, elements(2)},
		{unix.NFT_MSG_NEWRULE, nil},
		{unix.NFT_MSG_DELCHAIN, nil},
		{unix.NFT_MSG_NEWGEN, nil},
	} {
		err := c.add(netlink.Message{
			Header: netlink.Header{Type: netlink.HeaderType(unix.NFNL_SUBSYS_NFTABLES<<8 | m.kind)},
			Data:   slices.Concat([]byte{unix.NFPROTO_IPV4, 0, 0, 0}, m.data),
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if want := (NFTablesChanges{Elements: 5, Rules: 1, Others: 1}); c != want || c.Total() != 7 {
		t.Errorf("got %v, want %v", c, want)
	}
}

func TestCPUTimeOfChildren(t *testing.T) {
	const busy = "i=0; while [ $i -lt 300000 ]; do i=$((i+1)); done; echo; read line"
	for name, script := range map[string]string{
		"that have ended": "sh -c '" + busy + " </dev/null'; read line",
		"that run":        "sh -c '" + busy + "'; read line",
	} {
		t.Run(name, func(t *testing.T) {
			cmd := exec.Command("sh", "-c", script)
			in, err := cmd.StdinPipe()
			if err != nil {
				t.Fatal(err)
			}
			out, err := cmd.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			if _, err := out.Read(make([]byte, 1)); err != nil { // the child has done its work
				t.Fatal(err)
			}
			own, err := CPUTime(cmd.Process.Pid)
			if err != nil {
				t.Fatal(err)
			}
			all, err := CPUTimeWithChildren(cmd.Process.Pid)
			if err != nil {
				t.Fatal(err)
			}
			if all < own+5*clockTick {
				t.Errorf("%v with its children, %v without", all, own)
			}
			if err := in.Close(); err != nil {
				t.Fatal(err)
			}
			if err := cmd.Wait(); err == nil {
				t.Error("read at the end of its input succeeded")
			}
		})
	}
}
