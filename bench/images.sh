#!/usr/bin/env bash
# `banger image pull` from a registry on loopback, beside skopeo, umoci and mkfs.ext4, and beside gunzip alone.
#
#   bench/images.sh [ROUNDS [debian|many|others|shared]...]     (3 rounds of everything unless told otherwise)
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
exec "$root/node_modules/.bin/node" "$root/bench/images.ts" "$@"
