#!/usr/bin/env bash
# What a command costs before it does anything: process start to exit, beside an empty Node program.
#
#   bench/cli.sh [RUNS]
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
exec "$root/node_modules/.bin/node" "$root/bench/cli.ts" "$@"
