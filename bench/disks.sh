#!/usr/bin/env bash
# How long a VM's root disk takes to be made by each method, for an image of 350 MB and one of 4 GB, beside a plain
# `cp` of it in the same run; and that a sparse image of 10 GB keeps its holes. Reflinks need root, for a filesystem in
# a file, unless the directory given has them. Fails when a bound is missed.
#
#   bench/disks.sh [DIRECTORY [METHOD...]]
#   bench/disks.sh --lab [METHOD...]     in the tests' lab VM, which has device-mapper: dm-snapshot unless others are named
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
bench=disks.ts
if [[ ${1-} == --lab ]]; then
  shift
  bench=disks-in-lab.ts
fi
exec "$root/node_modules/.bin/node" "$root/bench/$bench" "$@"
