#!/usr/bin/env bash
# Builds everything that banger puts into a guest, from the distribution's packages.
#
#   scripts/build-guest.sh [--update] OUTDIR
#
# Nothing is installed and root is not needed: packages are downloaded, unpacked and
# taken apart in a temporary directory. They are kept in a cache, with the list of
# those chosen; a run that finds recipe and list unchanged ends at once, offline.
# --update asks the package index again, for newer versions.
#
# The same packages and recipe give the same bytes. What OUTDIR receives is listed
# in docs/decisions/guest.md.
set -euo pipefail

export LC_ALL=C TZ=UTC
PATH=$PATH:/usr/sbin:/sbin
umask 022

parts=$(dirname "${BASH_SOURCE[0]}")/guest
# shellcheck source=scripts/guest/packages.sh
source "$parts/packages.sh"
# shellcheck source=scripts/guest/kernel.sh
source "$parts/kernel.sh"
# shellcheck source=scripts/guest/archives.sh
source "$parts/archives.sh"
# shellcheck source=scripts/guest/contents.sh
source "$parts/contents.sh"
# shellcheck source=scripts/guest/manifest.sh
source "$parts/manifest.sh"

main() {
  local update=no
  [[ ${1-} != --update ]] || { update=yes && shift; }
  [[ $# == 1 ]] || die 'usage: scripts/build-guest.sh [--update] OUTDIR'
  mkdir -p "$1"
  out=$(cd "$1" && pwd)
  repo=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
  recipe=$repo/guest
  cache=${BANGER_BUILD_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/banger-build}/debs
  mkdir -p "$cache"

  local stamp
  [[ $update == no ]] || rm -f "$cache/packages"
  stamp=$(input_hash)
  if is_current "$stamp"; then
    echo "guest: $out is current"
    return
  fi

  check_host
  work=$(mktemp -d)
  trap 'rm -rf "$work"' EXIT
  fetch_packages
  unpack_packages

  build_kernel
  build_modules
  build_toolbox
  build_base
  build_git_toolbox
  write_manifest
  # Last, so that an interrupted run is never taken for a finished one.
  input_hash >"$out/.stamp"
  ls -l "$out"
}

die() {
  echo "build-guest: $1" >&2
  exit 1
}

outputs=(vmlinux.zst modules.cpio toolbox.cpio.zst base.tar.zst git-toolbox.tar.zst manifest.json)

# Changes whenever these scripts, the recipe, or the packages chosen do.
input_hash() {
  {
    cat "${BASH_SOURCE[0]}" "$parts"/*.sh | sha256sum
    (cd "$recipe" && find . -type f -print0 | sort -z | xargs -0 sha256sum && find . -type f -perm -u+x | sort)
    cat "$cache/packages" 2>/dev/null || echo none
  } | sha256sum | cut -d' ' -f1
}

is_current() {
  local name
  [[ -s $cache/packages && -r $out/.stamp && $(<"$out/.stamp") == "$1" ]] || return 1
  for name in "${outputs[@]}"; do [[ -s $out/$name ]] || return 1; done
}

check_host() {
  local missing=() entry
  command -v dpkg apt-get >/dev/null || die 'this needs a Debian or Ubuntu host (dpkg and apt-get)'
  local arch
  arch=$(dpkg --print-architecture)
  [[ $arch == amd64 ]] || die "guests are built for amd64 only, and this host is $arch"
  for entry in patchelf:patchelf cpio:cpio zstd:zstd lz4:lz4 xz:xz-utils gzip:gzip tar:tar od:coreutils; do
    command -v "${entry%%:*}" >/dev/null || missing+=("${entry##*:}")
  done
  [[ ${#missing[@]} == 0 ]] || die "these tools are missing; install them with: sudo apt-get install --no-install-recommends ${missing[*]}"
}

main "$@"
