package ipvs

import (
	"fmt"
	"os"
	"strings"

	"github.com/fairway-lb/fairway/dataplane"
)

// noIPv6 returns why the node cannot have IPv6 Services, or nil if it can: their
// addresses have to be on our link, and a link without IPv6 takes none.
func noIPv6() error {
	if err := dataplane.NoIPv6(); err != nil {
		return err
	}
	for _, name := range []string{linkName, "default"} { // the link, or as it will be made
		text, err := os.ReadFile("/proc/sys/net/ipv6/conf/" + name + "/disable_ipv6")
		if err != nil {
			continue
		}
		if strings.TrimSpace(string(text)) == "0" {
			return nil
		}
		return fmt.Errorf("the link %s takes no addresses of IPv6 while net.ipv6.conf.%s.disable_ipv6 is 1; set it to 0 and start the speaker again, or use --dataplane=nftables or --dataplane=iptables, which put no addresses on links", linkName, name)
	}
	return nil
}
