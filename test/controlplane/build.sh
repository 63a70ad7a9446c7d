#!/bin/bash
# build.sh BIN: builds the program "kubernetes" into the directory BIN and
# makes the links etcd, kube-apiserver ... to it. Returns at once if BIN has
# the program of these very sources; two at once build once.
set -euo pipefail

usage="usage: build.sh BIN"
bin=$(mkdir -p "${1:?$usage}" && cd "$1" && pwd)
cd "$(dirname "${BASH_SOURCE[0]}")"
export CGO_ENABLED=0 GOWORK=off GOFLAGS=
programs="etcd kube-apiserver kube-controller-manager kube-proxy kubectl"
stamp=$bin/.kubernetes.stamp

# identity is a hash of all that the program depends on.
identity() {
	{
		go env GOVERSION GOOS GOARCH
		find . \( -name '*.go' ! -name '*_test.go' -o -name go.mod -o -name go.sum -o -name build.sh \) -print0 |
			LC_ALL=C sort -z | xargs -0 sha256sum
	} | sha256sum
}

# current succeeds if BIN has everything already.
current() {
	local name
	[ -x "$bin/kubernetes" ] && [ "$(cat "$stamp" 2>/dev/null)" = "$1" ] || return 1
	for name in $programs; do
		[ "$bin/$name" -ef "$bin/kubernetes" ] || return 1
	done
}

# show_progress prints a line every 15 seconds about the build that writes to
# the file $1, so that a build of seconds stays silent.
show_progress() {
	local start=$SECONDS
	while sleep 15 &>/dev/null; do # a sleep that is left over holds no pipe
		echo "build kubernetes: $((SECONDS - start)) s," \
			"$(grep -c '^go: downloading' "$1" || true) modules downloaded," \
			"$(grep -cE "$package_line" "$1" || true) packages compiled (about 2800 from nothing), then a link" >&2
	done
}
package_line='^[[:alnum:]._~/-]+$' # what go build -v prints for a package

build() {
	local version minor flags package status=0
	version=$(go list -m -f '{{.Version}}' k8s.io/kubernetes)
	minor=${version#v1.}
	minor=${minor%%.*}
	flags="-s -w"
	for package in k8s.io/component-base/version k8s.io/client-go/pkg/version; do
		flags+=" -X $package.gitVersion=$version -X $package.gitMajor=1 -X $package.gitMinor=$minor"
	done

	log=$(mktemp)
	show_progress "$log" &
	progress=$!
	go build -v -trimpath -buildvcs=false -ldflags "$flags" -o "$bin/.kubernetes.$$" . 2>"$log" &
	compiler=$!
	wait "$compiler" || status=$?
	if [ "$status" -ne 0 ]; then
		grep -vE "$package_line|^go: downloading" "$log" >&2 || true
		echo "build kubernetes: go build failed with status $status in $PWD" >&2
		return 1
	fi
	mv "$bin/.kubernetes.$$" "$bin/kubernetes"
	for name in $programs; do
		ln -sfn kubernetes "$bin/$name"
	done
}

log='' progress='' compiler=''
finish() {
	[ -z "$progress" ] || kill "$progress" 2>/dev/null || true
	[ -z "$compiler" ] || kill "$compiler" 2>/dev/null || true
	[ -z "$log" ] || rm -f "$log"
	rm -f "$bin/.kubernetes.$$"
}
trap 'exit 130' INT TERM
trap finish EXIT

want=$(identity)
current "$want" && exit
exec 9>"$bin/.kubernetes.lock"
if ! flock --nonblock 9; then
	echo "build kubernetes: waiting for another build into $bin" >&2
	flock 9
fi
if ! current "$want"; then
	build 9>&-
	echo "$want" >"$stamp"
fi
