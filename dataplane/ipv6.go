package dataplane

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// ErrNoIPv6 is that of a node that has no IPv6.
var ErrNoIPv6 = errors.New("the node has no IPv6")

// NoIPv6 returns why the network namespace of the calling thread takes no packet
// of IPv6, and what to do about it, or nil if it takes them: an ErrNoIPv6. A
// backend serves IPv4 alone there.
func NoIPv6() error {
	// This brings the module where it is there to be had.
	fd, err := unix.Socket(unix.AF_INET6, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err == nil {
		unix.Close(fd)
		return disabledIPv6("/proc/sys/net/ipv6/conf")
	}
	if !errors.Is(err, unix.EAFNOSUPPORT) {
		return nil // of something else, which others will meet
	}
	if disabled, err := flagIsSet("/sys/module/ipv6/parameters/disable"); err == nil && disabled {
		return fmt.Errorf("%w: it was booted with ipv6.disable=1; leave that out of the kernel's command line if it is to have IPv6", ErrNoIPv6)
	}
	return fmt.Errorf("%w: the kernel lacks it (%w); load the module ipv6 and start the speaker again if it is to have IPv6", ErrNoIPv6, err)
}

// disabledIPv6 asks the sysctls of links, for "all" only passes its value on to
// them and to those to come. What a node has of IPv6 on the loopback alone
// serves nobody.
func disabledIPv6(conf string) error {
	files, err := filepath.Glob(filepath.Join(conf, "*", "disable_ipv6"))
	if err != nil || len(files) == 0 {
		return nil // nothing says so
	}
	for _, file := range files {
		if link := filepath.Base(filepath.Dir(file)); link == "all" || link == "lo" {
			continue
		}
		disabled, err := flagIsSet(file)
		if errors.Is(err, fs.ErrNotExist) {
			continue // a link that has gone meanwhile
		}
		if err != nil || !disabled {
			return nil
		}
	}
	return fmt.Errorf("%w: net.ipv6.conf.default.disable_ipv6 is 1, and so is that of all links; set net.ipv6.conf.all.disable_ipv6=0 and start the speaker again if it is to have IPv6", ErrNoIPv6)
}

func flagIsSet(file string) (bool, error) {
	text, err := os.ReadFile(file)
	return strings.TrimSpace(string(text)) == "1", err
}
