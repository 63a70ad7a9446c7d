#!/usr/bin/env bash
# Installs what the tests and the demo need and a fresh Debian lacks: the
# programs that kube-proxy and the iptables backend call, a kernel with IPVS as a
# program and what loads its modules, iproute2 to look into the lab, FRR and BIRD
# as routers in it, and a C compiler for the race detector. The routers' own
# services are not needed: the lab starts the daemons in namespaces of its own.
# Silent when nothing is missing.
set -euo pipefail

packages=()
need() { # need PROGRAM PACKAGE...
	command -v "$1" >/dev/null || packages+=("${@:2}")
}
need ip iproute2
need nft nftables
need iptables iptables
need ipset ipset
need linux.uml user-mode-linux
need modprobe kmod
need conntrack conntrack
need /usr/lib/frr/bgpd frr
need /usr/sbin/bird bird2
need gcc gcc libc6-dev
need git git
need curl curl
((${#packages[@]})) || exit 0

if [[ $(id -u) != 0 ]]; then
	echo "Missing packages: ${packages[*]}. Run this as root, or install them." >&2
	exit 1
fi
echo "Installing ${packages[*]}"
install_packages() {
	apt-get update -qq &&
		DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends \
			-o DPkg::Lock::Timeout=300 "${packages[@]}" >/dev/null
}
# A mirror in the middle of an update refuses now and then.
install_packages || install_packages
