#!/usr/bin/env bash
# `banger vm create` until SSH answers, beside the same guest started by a raw QEMU command line.
#
#   bench/boot.sh [ROUNDS]
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
exec "$root/node_modules/.bin/node" "$root/bench/boot.ts" "$@"
