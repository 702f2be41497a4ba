#!/usr/bin/env bash
# `banger workspace prepare` and `export`, beside tar over OpenSSH and the guest's own git, in one run.
#
#   bench/workspace.sh [ROUNDS] [FILES...]
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
exec "$root/node_modules/.bin/node" "$root/bench/workspace.ts" "$@"
