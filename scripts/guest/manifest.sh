# shellcheck shell=bash
# Says what was built, and of what. To be sourced by build-guest.sh.

write_manifest() {
  local name separator=
  {
    printf '{\n  "version": "%s",\n  "arch": "amd64",\n' "$(base_version)"
    printf '  "kernel": "%s",\n  "files": [' "$(basename "$module_tree")"
    for name in "${outputs[@]}"; do
      [[ $name != manifest.json ]] || continue
      printf '%s\n    { "name": "%s", "sizeBytes": %s, "unpackedBytes": %s, "sha256": "%s" }' "$separator" "$name" \
        "$(stat -c %s "$out/$name")" "$(unpacked_size "$out/$name")" "$(sha256sum <"$out/$name" | cut -d' ' -f1)"
      separator=,
    done
    printf '\n  ],\n  "packages": ['
    separator=
    while read -r hash name; do
      # Some packages are only dependencies of what we did not take.
      grep -qx "${name%%_*}" "$work/used" || continue
      package_entry "$cache/$name" "$hash"
    done <"$cache/packages"
    printf '\n  ]\n}\n'
  } >"$out/manifest.json"
}

unpacked_size() {
  case $1 in
    *.zst) zstd -dcq "$1" | wc -c ;;
    *) stat -c %s "$1" ;;
  esac
}

package_entry() {
  local package version source
  package=$(dpkg-deb -f "$1" Package)
  version=$(dpkg-deb -f "$1" Version)
  # "Source: name (version)", absent where both equal the package's.
  source=$(dpkg-deb -f "$1" Source)
  printf '%s\n    { "package": "%s", "version": "%s", "source": "%s", "licence": "%s", "sha256": "%s" }' \
    "$separator" "$package" "$version" "${source:-$package}" "$(licence "${source:-$package}")" "$2"
  separator=,
}

# By source package. The packages' own copyright files have the last word.
licence() {
  case ${1%% *} in
    linux*) echo GPL-2.0-only ;;
    busybox | git) echo GPL-2.0-only ;;
    dropbear) echo MIT ;;
    openssh) echo BSD-2-Clause ;;
    e2fsprogs) echo 'GPL-2.0-only AND LGPL-2.0-only' ;;
    util-linux) echo 'GPL-2.0-or-later AND LGPL-2.1-or-later AND BSD-3-Clause' ;;
    glibc) echo LGPL-2.1-or-later ;;
    libxcrypt) echo LGPL-2.1-or-later ;;
    libcap-ng) echo LGPL-2.1-or-later ;;
    gmp) echo 'LGPL-3.0-or-later OR GPL-2.0-or-later' ;;
    libtomcrypt | libtommath) echo Unlicense ;;
    pcre2) echo BSD-3-Clause ;;
    zlib) echo Zlib ;;
    libselinux) echo 'LicenseRef-public-domain' ;;
    *) echo 'see its copyright file' ;;
  esac
}
