#!/usr/bin/env bash
# TCP from the host into a guest and back through our bridge, beside a tap made by hand; and how long an answer for a name takes.
#
#   bench/network.sh [ROUNDS]
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
status=0
"$root/node_modules/.bin/node" "$root/bench/network.ts" "$@" || status=$?
"$root/node_modules/.bin/node" "$root/bench/dns.ts" || status=$?
exit "$status"
