package kubeproxy

import (
	"errors"
	"testing"

	"golang.org/x/sys/unix"
)

// A transaction for a state that another has changed is made anew, some times.
func TestTransactAnew(t *testing.T) {
	loopback(t)
	for _, test := range []struct {
		name          string
		changes, made int // by another, and transactions
		fails         bool
	}{
		{"alone", 0, 1, false},
		{"once", 1, 2, false},
		{"almost too often", attempts - 1, attempts, false},
		{"on and on", attempts, attempts, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			clean(t)
			nft(t, families()[0].nftables())
			made := 0
			err := transact(t.Context(), func() (transaction, error) {
				next, err := nftTables{}.removal(t.Context(), func(string) {})
				if made < test.changes {
					nft(t, "add table ip another\ndelete table ip another")
				}
				made++
				return next, err
			})
			if made != test.made || (err != nil) != test.fails || test.fails && !errors.Is(err, unix.ERESTART) {
				t.Errorf("made %d times, %v; want %d", made, err, test.made)
			}
			found, err := nftTables{}.find(t.Context())
			if err != nil || (len(found) > 0) != test.fails {
				t.Errorf("left is %v, %v", found, err)
			}
		})
	}
}
