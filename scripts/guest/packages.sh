# shellcheck shell=bash
# Which packages guests are made of: chosen, downloaded, unpacked. To be sourced by build-guest.sh.

# Debian's cloud kernel has ext4 built in and every virtio driver as a module. The others are Ubuntu's closest.
kernels=(linux-image-cloud-amd64 linux-image-kvm linux-image-virtual)

# What the guest is made of. Libraries follow from their dependencies.
tools=(busybox-static dropbear-bin openssh-sftp-server e2fsprogs util-linux git)

# What compiles our own part of it. Not shipped.
builders=(tcc)

# Libraries that these packages name, and nothing we take out of them uses.
unused='^(liberror-perl|libcurl.*|libexpat1|libperl.*|libpam.*|libsystemd.*|libudev.*|libtinfo.*|libreadline.*|libcryptsetup.*)$'

fetch_packages() {
  local names missing=() name deb sha256
  choose_packages
  mapfile -t names <"$work/names"
  # The file name that apt gives a download, and the hash that its index promises.
  apt-cache show --no-all-versions "${names[@]}" | awk '
    /^Package: / { name = $2 } /^Version: / { version = $2; gsub(":", "%3a", version) } /^Architecture: / { arch = $2 }
    /^SHA256: / { print $2 "  " name "_" version "_" arch ".deb" }' | sort -k2 >"$work/packages"

  while read -r sha256 deb; do
    [[ -s $cache/$deb ]] && sha256sum --quiet -c <<<"$sha256  $cache/$deb" 2>/dev/null || missing+=("${deb%%_*}")
  done <"$work/packages"
  if [[ ${#missing[@]} -gt 0 ]]; then
    echo "guest: downloading ${missing[*]}"
    # As root, apt would drop to a user of its own who cannot write here, and warn.
    local options=()
    [[ $(id -u) != 0 ]] || options=(-o APT::Sandbox::User=root)
    for name in "${missing[@]}"; do rm -f "$cache/$name"_*.deb; done
    (cd "$cache" && apt-get -q "${options[@]}" download "${missing[@]}" >/dev/null) ||
      die 'a download did not succeed; if the package index is old, refresh it with: sudo apt-get update'
  fi
  (cd "$cache" && sha256sum --quiet -c "$work/packages") || die "packages in $cache differ from the index"
  cp "$work/packages" "$cache/packages"
}

# Names of all packages: the kernel, the tools, and the closure of their libraries.
choose_packages() {
  local queue name dependency
  local -A seen=()
  # One call for the whole graph: each costs a noticeable part of a second.
  apt-cache depends --recurse --no-recommends --no-suggests --no-conflicts --no-breaks --no-replaces --no-enhances \
    "${kernels[@]}" "${tools[@]}" "${builders[@]}" 2>/dev/null |
    awk '/^[^ ]/ { name = $1 } /^ / && /Depends: / { if (!alternative) print name, $2; alternative = /\|/ }' >"$work/depends"

  mapfile -t queue < <(choose_kernel)
  [[ ${#queue[@]} -gt 0 ]] || die 'no kernel package in the index; refresh it with: sudo apt-get update'
  queue+=("${tools[@]}" "${builders[@]}")
  while [[ ${#queue[@]} -gt 0 ]]; do
    name=${queue[0]}
    queue=("${queue[@]:1}")
    [[ -z ${seen[$name]-} ]] || continue
    seen[$name]=1
    echo "$name" >>"$work/names"
    [[ $name != linux-* ]] || continue
    while read -r dependency; do
      [[ $dependency =~ ^z?lib && ! $dependency =~ $unused && $dependency != *-bin ]] || continue
      queue+=("$dependency")
    done < <(dependencies "$name")
  done
}

# Packages that a package depends on, one per line; of alternatives the first.
dependencies() {
  awk -v name="$1" '$1 == name { print $2 }' "$work/depends"
}

# The newest kernel of the first flavour that the index has.
choose_kernel() {
  local flavour kernel
  for flavour in "${kernels[@]}"; do
    kernel=$(dependencies "$flavour" | grep '^linux-image-[0-9]') || continue
    kernel=${kernel%%$'\n'*}
    echo "$kernel"
    # Ubuntu ships the modules apart from the kernel.
    dependencies "$kernel" | grep '^linux-modules-[0-9]' || true
    return
  done
}

# Each package in a directory of its own, so that the manifest can say where a file is from.
unpack_packages() {
  local deb
  while read -r _ deb; do
    mkdir -p "$work/debs/${deb%%_*}"
    dpkg-deb -x "$cache/$deb" "$work/debs/${deb%%_*}"
  done <"$cache/packages"
}

# Path of a file that one of the packages has, given by a pattern below its root.
find_file() {
  local found
  found=$(find "$work/debs" -path "$work/debs/*/$1" ! -type d | sort)
  [[ -n $found ]] || die "none of the packages has $1"
  found=${found%%$'\n'*}
  echo "$found"
  found=${found#"$work/debs/"}
  echo "${found%%/*}" >>"$work/used"
}
