#!/usr/bin/env bash
# Many VMs on one machine, emulated: eight creates at once beside eight raw QEMUs at once, `ps` with 500 rows, and
# what the engine takes while it rests. Fails when a bound is missed.
#
#   bench/lifecycle.sh [ROUNDS]
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
exec "$root/node_modules/.bin/node" "$root/bench/lifecycle.ts" "$@"
