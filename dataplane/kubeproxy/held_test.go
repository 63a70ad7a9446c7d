package kubeproxy

import (
	"context"
	"encoding/binary"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	mdlayher "github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"

	"github.com/fairway-lb/fairway/dataplane/service"
)

// The lock of all programs of iptables-legacy may be another's for long. What
// needs no lock goes, the rest stays as it is, and goes the next time.
func TestRemoveLocked(t *testing.T) {
	loopback(t)
	clean(t)
	f := families()[0]
	restore(t, f.program+"-legacy", f.iptables())
	nft(t, f.nftables())
	rules := func() string { return command(t, "", f.program+"-legacy-save") }
	path := filepath.Join(t.TempDir(), "lock")
	t.Setenv("XTABLES_LOCKFILE", path)
	lock, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer lock.Close()
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX); err != nil {
		t.Fatal(err)
	}
	before := withoutDates(rules())
	const seconds = 1
	err = legacyChains{f.Family}.restore(t.Context(), "*nat\nCOMMIT\n", seconds)
	if err == nil || !strings.Contains(err.Error(), "holding the xtables lock") {
		t.Errorf("got %v, want that the lock is held", err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second) // it would wait for longer
	defer cancel()
	if err := Remove(ctx, Config{}); err == nil || !strings.Contains(err.Error(), "from table nat of iptables-legacy (IPv4)") {
		t.Errorf("got %v, want what could not be removed", err)
	}
	found, err := Leftovers(t.Context())
	if err != nil || len(found) != 3 || found[0].Mode != modeIPTables {
		t.Errorf("left is %v, %v; want the chains of three tables", found, err)
	}
	if after := withoutDates(rules()); after != before {
		t.Errorf("changed: %s", difference(before, after))
	}
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_UN); err != nil {
		t.Fatal(err)
	}
	if err := Remove(t.Context(), Config{}); err != nil {
		t.Error(err)
	}
	if found, err := Leftovers(t.Context()); err != nil || len(found) > 0 {
		t.Errorf("left is %v, %v", found, err)
	}
}

func withoutDates(saved string) string {
	var b strings.Builder
	for line := range strings.Lines(saved) {
		if !strings.HasPrefix(line, "#") {
			b.WriteString(line)
		}
	}
	return b.String()
}

// A table that belongs to a process is left to it, all else goes, and the error
// says what to do.
func TestRemoveOwned(t *testing.T) {
	loopback(t)
	clean(t)
	f := families()[0]
	restore(t, f.program+"-nft", f.iptables())
	release := own(t, tableName)
	err := Remove(t.Context(), Config{})
	if !errors.Is(err, unix.EPERM) || !strings.Contains(err.Error(), "another process owns") {
		t.Errorf("got %v, want that another has the table", err)
	}
	found, err := Leftovers(t.Context())
	if err != nil || len(found) != 1 || found[0].Mode != modeNFTables {
		t.Errorf("left is %v, %v; want the table", found, err)
	}
	release() // and the table goes with its owner
	if err := Remove(t.Context(), Config{}); err != nil {
		t.Error(err)
	}
}

// own makes a table of IPv4 that nobody else can change until it is released.
func own(t *testing.T, table string) (release func()) {
	t.Helper()
	conn, err := dial(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	const owner = 2 // NFT_TABLE_F_OWNER
	var e encoder
	e.string(unix.NFTA_TABLE_NAME, table)
	e.bytes(unix.NFTA_TABLE_FLAGS, binary.BigEndian.AppendUint32(nil, owner))
	border := func(kind mdlayher.HeaderType) mdlayher.Message {
		return mdlayher.Message{
			Header: mdlayher.Header{Type: kind, Flags: mdlayher.Request},
			Data:   binary.BigEndian.AppendUint16([]byte{unix.AF_UNSPEC, unix.NFNETLINK_V0}, unix.NFNL_SUBSYS_NFTABLES),
		}
	}
	_, err = conn.SendMessages([]mdlayher.Message{
		border(unix.NFNL_MSG_BATCH_BEGIN),
		message(unix.NFNL_SUBSYS_NFTABLES, unix.NFT_MSG_NEWTABLE, mdlayher.Create|mdlayher.Acknowledge, netfilterFamily(service.IPv4), e),
		border(unix.NFNL_MSG_BATCH_END),
	})
	if err == nil {
		_, err = conn.Receive()
	}
	if err != nil {
		t.Fatalf("own table %s: %v", table, err)
	}
	return func() {
		if err := conn.Close(); err != nil {
			t.Error(err)
		}
	}
}
