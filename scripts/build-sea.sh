#!/usr/bin/env bash
# Builds dist/banger: one executable with Node, the program, and all that it puts into guests.
#
#   scripts/build-sea.sh            (or: npm run build)
#
# Needs node_modules (npm ci); neither compiler nor root. Downloads and parts are kept
# in .cache/ (or $BANGER_BUILD_CACHE), so that an unchanged build takes seconds.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cd "$root"

# The Node that gets embedded also builds: only its own version may write the blob for it.
node=$root/node_modules/.bin/node
if [[ ! -x $node ]]; then
  echo 'build: node_modules is missing; make it with: npm ci' >&2
  exit 1
fi

export BANGER_BUILD_CACHE=${BANGER_BUILD_CACHE:-$root/.cache}
mkdir -p "$BANGER_BUILD_CACHE" dist

# Two builds at a time would hand each other half-written parts.
exec 9>"$BANGER_BUILD_CACHE/build.lock"
if ! flock -n 9; then
  echo 'build: waiting for another build to finish'
  flock 9
fi

scripts/build-guest.sh "$BANGER_BUILD_CACHE/guest"
# Not exec: the lock belongs to this shell, and must not be inherited by what a build leaves running.
"$node" scripts/build-sea.ts "$BANGER_BUILD_CACHE" 9>&-
