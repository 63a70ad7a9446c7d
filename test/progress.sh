#!/usr/bin/env bash
# progress.sh TEXT COMMAND...: runs a command, and says every ten seconds that
# it is still at it. A command of seconds stays silent.
set -euo pipefail

text=$1
shift
say() {
	local start=$SECONDS
	while sleep 10 &>/dev/null; do # a sleep that is left over holds no pipe
		echo "$text: $((SECONDS - start)) s" >&2
	done
}
say &
trap 'kill %1 2>/dev/null || true' EXIT
"$@"
