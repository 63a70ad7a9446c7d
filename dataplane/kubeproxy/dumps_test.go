package kubeproxy

import (
	"fmt"

	"github.com/fairway-lb/fairway/dataplane/service"
)

// foreign is what others have in iptables. Its counters are not to change.
const foreign = `*mangle
:KUBE-IPTABLES-HINT - [0:0]
:KUBE-KUBELET-CANARY - [0:0]
COMMIT
*nat
:PREROUTING ACCEPT [0:0]
:CNI-HOSTPORT-DNAT - [0:0]
:KUBE-KUBELET-CANARY - [0:0]
:cali-PREROUTING - [0:0]
[5:300] -A PREROUTING -m comment --comment "cali:6gwbT8clXdHdC1b1" -j cali-PREROUTING
[1:60] -A PREROUTING -p tcp -m tcp --dport 8443 -m comment --comment "mine, \"not\" -j KUBE-SERVICES" -j REDIRECT --to-ports 443
[2:120] -A PREROUTING -m addrtype --dst-type LOCAL -j CNI-HOSTPORT-DNAT
COMMIT
*filter
:INPUT DROP [0:0]
:KUBE-FIREWALL - [0:0]
:KUBE-KUBELET-CANARY - [0:0]
[9:540] -A INPUT -j KUBE-FIREWALL
[8:480] -A INPUT -p tcp -m tcp --dport 22 -j ACCEPT
[4:240] -A FORWARD -m comment --comment "KUBE-SERVICES" -j ACCEPT
[9:540] -A OUTPUT -j KUBE-FIREWALL
[0:0] -A KUBE-FIREWALL -m conntrack ! --ctstate RELATED,ESTABLISHED,DNAT -m comment --comment "block incoming localnet connections" -j DROP
COMMIT
`

// inIPTables is what kube-proxy has in iptables mode for one Service with two
// endpoints and one without, as in a dump of 1.37.
const inIPTables = `*mangle
:KUBE-PROXY-CANARY - [0:0]
COMMIT
*nat
:KUBE-EXT-TCOU7JCQXEZGVUNU - [0:0]
:KUBE-FW-TCOU7JCQXEZGVUNU - [0:0]
:KUBE-MARK-MASQ - [0:0]
:KUBE-NODEPORTS - [0:0]
:KUBE-POSTROUTING - [0:0]
:KUBE-PROXY-CANARY - [0:0]
:KUBE-SEP-6E7XQMQ4RAYOWTTM - [0:0]
:KUBE-SEP-IT2ZTR26TO4XFPTO - [0:0]
:KUBE-SERVICES - [0:0]
:KUBE-SVC-TCOU7JCQXEZGVUNU - [0:0]
:KUBE-SVL-TCOU7JCQXEZGVUNU - [0:0]
-I PREROUTING -m comment --comment "kubernetes service portals" -j KUBE-SERVICES
-I OUTPUT -m comment --comment "kubernetes service portals" -j KUBE-SERVICES
-I POSTROUTING -m comment --comment "kubernetes postrouting rules" -j KUBE-POSTROUTING
-A KUBE-SERVICES -d %[1]s -p tcp -m comment --comment "d/web:http cluster IP" -m tcp --dport 80 -j KUBE-SVC-TCOU7JCQXEZGVUNU
-A KUBE-SERVICES -d %[2]s -p tcp -m comment --comment "d/web:http loadbalancer IP" -m tcp --dport 80 -j KUBE-FW-TCOU7JCQXEZGVUNU
-A KUBE-SERVICES -m comment --comment "kubernetes service nodeports; NOTE: this must be the last rule in this chain" -m addrtype --dst-type LOCAL -j KUBE-NODEPORTS
-A KUBE-NODEPORTS -p tcp -m comment --comment "d/web:http" -m tcp --dport 30080 -j KUBE-EXT-TCOU7JCQXEZGVUNU
-A KUBE-EXT-TCOU7JCQXEZGVUNU -m comment --comment "masquerade traffic for d/web:http external destinations" -j KUBE-MARK-MASQ
-A KUBE-EXT-TCOU7JCQXEZGVUNU -j KUBE-SVC-TCOU7JCQXEZGVUNU
-A KUBE-FW-TCOU7JCQXEZGVUNU -m comment --comment "d/web:http loadbalancer IP" -j KUBE-EXT-TCOU7JCQXEZGVUNU
-A KUBE-MARK-MASQ -j MARK --or-mark 0x4000
-A KUBE-POSTROUTING -m mark ! --mark 0x4000/0x4000 -j RETURN
-A KUBE-POSTROUTING -j MARK --xor-mark 0x4000
-A KUBE-POSTROUTING -m comment --comment "kubernetes service traffic requiring SNAT" -j MASQUERADE --random-fully
-A KUBE-SVC-TCOU7JCQXEZGVUNU -m comment --comment "d/web:http cluster IP" -j KUBE-MARK-MASQ
-A KUBE-SVC-TCOU7JCQXEZGVUNU -m comment --comment "d/web:http" -m statistic --mode random --probability 0.5 -j KUBE-SEP-6E7XQMQ4RAYOWTTM
-A KUBE-SVC-TCOU7JCQXEZGVUNU -m comment --comment "d/web:http" -j KUBE-SEP-IT2ZTR26TO4XFPTO
-A KUBE-SEP-6E7XQMQ4RAYOWTTM -p tcp -m comment --comment "d/web:http" -m recent --set --name KUBE-SEP-6E7XQMQ4RAYOWTTM --rsource -m tcp -j DNAT --to-destination %[3]s
-A KUBE-SEP-IT2ZTR26TO4XFPTO -p tcp -m comment --comment "d/web:http" -m tcp -j DNAT --to-destination %[3]s
COMMIT
*filter
:KUBE-EXTERNAL-SERVICES - [0:0]
:KUBE-FORWARD - [0:0]
:KUBE-NODEPORTS - [0:0]
:KUBE-PROXY-CANARY - [0:0]
:KUBE-PROXY-FIREWALL - [0:0]
:KUBE-SERVICES - [0:0]
-I INPUT -m conntrack --ctstate NEW -m comment --comment "kubernetes externally-visible service portals" -j KUBE-EXTERNAL-SERVICES
-I INPUT -m comment --comment "kubernetes health check service ports" -j KUBE-NODEPORTS
-I INPUT -m conntrack --ctstate NEW -m comment --comment "kubernetes load balancer firewall" -j KUBE-PROXY-FIREWALL
-I FORWARD -m conntrack --ctstate NEW -m comment --comment "kubernetes externally-visible service portals" -j KUBE-EXTERNAL-SERVICES
-I FORWARD -m conntrack --ctstate NEW -m comment --comment "kubernetes service portals" -j KUBE-SERVICES
-I FORWARD -m comment --comment "kubernetes forwarding rules" -j KUBE-FORWARD
-I FORWARD -m conntrack --ctstate NEW -m comment --comment "kubernetes load balancer firewall" -j KUBE-PROXY-FIREWALL
-I OUTPUT -m conntrack --ctstate NEW -m comment --comment "kubernetes service portals" -j KUBE-SERVICES
-I OUTPUT -m conntrack --ctstate NEW -m comment --comment "kubernetes load balancer firewall" -j KUBE-PROXY-FIREWALL
-A KUBE-FORWARD -m conntrack --ctstate INVALID -j DROP
-A KUBE-FORWARD -m comment --comment "kubernetes forwarding rules" -m mark --mark 0x4000/0x4000 -j ACCEPT
-A KUBE-FORWARD -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
-A KUBE-SERVICES -d %[2]s -p tcp -m comment --comment "d/none has no endpoints" -m tcp --dport 81 -j REJECT
COMMIT
`

// inIPVS is what kube-proxy has in iptables in IPVS mode, shortened: what leads
// there, and rules that use its sets.
const inIPVS = `*nat
:KUBE-LOAD-BALANCER - [0:0]
:KUBE-MARK-MASQ - [0:0]
:KUBE-NODE-PORT - [0:0]
:KUBE-POSTROUTING - [0:0]
:KUBE-SERVICES - [0:0]
-I PREROUTING -m comment --comment "kubernetes service portals" -j KUBE-SERVICES
-I OUTPUT -m comment --comment "kubernetes service portals" -j KUBE-SERVICES
-I POSTROUTING -m comment --comment "kubernetes postrouting rules" -j KUBE-POSTROUTING
-A KUBE-SERVICES -m set --match-set %[1]sCLUSTER-IP dst,dst -j ACCEPT
-A KUBE-SERVICES -m addrtype --dst-type LOCAL -j KUBE-NODE-PORT
-A KUBE-SERVICES -j KUBE-LOAD-BALANCER
-A KUBE-LOAD-BALANCER -j KUBE-MARK-MASQ
-A KUBE-NODE-PORT -p tcp -m set --match-set %[1]sNODE-PORT-TCP dst -j KUBE-MARK-MASQ
COMMIT
*filter
:KUBE-FORWARD - [0:0]
:KUBE-IPVS-FILTER - [0:0]
:KUBE-IPVS-OUT-FILTER - [0:0]
:KUBE-NODE-PORT - [0:0]
:KUBE-PROXY-FIREWALL - [0:0]
:KUBE-SOURCE-RANGES-FIREWALL - [0:0]
-I INPUT -m comment --comment "kubernetes ipvs access filter" -j KUBE-IPVS-FILTER
-I INPUT -m comment --comment "kube-proxy firewall rules" -j KUBE-PROXY-FIREWALL
-I INPUT -m comment --comment "kubernetes health check rules" -j KUBE-NODE-PORT
-I FORWARD -m comment --comment "kube-proxy firewall rules" -j KUBE-PROXY-FIREWALL
-I FORWARD -m comment --comment "kubernetes forwarding rules" -j KUBE-FORWARD
-I OUTPUT -m comment --comment "kubernetes ipvs access filter" -j KUBE-IPVS-OUT-FILTER
-A KUBE-IPVS-FILTER -m set --match-set %[1]sIPVS-IPS dst -m conntrack --ctstate NEW -j REJECT
-A KUBE-PROXY-FIREWALL -j KUBE-SOURCE-RANGES-FIREWALL
COMMIT
`

// inNFTables is what kube-proxy has in nftables mode, shortened.
const inNFTables = `table %[1]s kube-proxy {
	comment "rules for kube-proxy"
	map service-ips { type %[2]s . inet_proto . inet_service : verdict; elements = { %[3]s . tcp . 80 : goto service-ULMVA6XW-d/web/tcp/http } }
	chain service-ULMVA6XW-d/web/tcp/http { meta mark set mark or 0x4000; meta l4proto tcp dnat to %[4]s; }
	chain services { %[1]s daddr . meta l4proto . th dport vmap @service-ips; }
	chain nat-prerouting { type nat hook prerouting priority -100; jump services; }
	chain nat-output { type nat hook output priority -100; jump services; }
	chain nat-postrouting { type nat hook postrouting priority 100; mark and 0x4000 != 0 masquerade fully-random; }
}
`

// othersNFTables is what others have in nftables.
const othersNFTables = `table inet kube-proxy {
	chain c { type filter hook input priority 0; counter packets 3 bytes 180 accept; }
}
table ip kube-proxy-2 {
	chain KUBE-SERVICES { drop; }
}
table ip6 mine {
	chain KUBE-SERVICES { return; }
	chain nat-output { type nat hook output priority -150; jump KUBE-SERVICES; }
}
`

// family is what is different from one to the other.
type family struct {
	service.Family
	program              string
	clusterIP, vip       string
	endpoint             string
	nft, addr, setPrefix string
}

func families() []family {
	return []family{
		{service.IPv4, "iptables", "10.96.0.1", "192.0.2.1", "10.0.0.1:8080", "ip", "ipv4_addr", "KUBE-"},
		{service.IPv6, "ip6tables", "fd00::1", "2001:db8::1", "[fd01::1]:8080", "ip6", "ipv6_addr", "KUBE-6-"},
	}
}

func (f family) iptables() string { return fmt.Sprintf(inIPTables, f.clusterIP, f.vip, f.endpoint) }

func (f family) nftables() string {
	return fmt.Sprintf(inNFTables, f.nft, f.addr, f.clusterIP, f.endpoint)
}
