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

# Changes whenever this script, the recipe, or the packages chosen do.
input_hash() {
  {
    sha256sum <"${BASH_SOURCE[0]}"
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

## Packages

# Debian's cloud kernel has ext4 built in and every virtio driver as a module. The others are Ubuntu's closest.
kernels=(linux-image-cloud-amd64 linux-image-kvm linux-image-virtual)

# What the guest is made of. Libraries follow from their dependencies.
tools=(busybox-static dropbear-bin openssh-sftp-server e2fsprogs util-linux git)

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
    "${kernels[@]}" "${tools[@]}" 2>/dev/null |
    awk '/^[^ ]/ { name = $1 } /^ / && /Depends: / { if (!alternative) print name, $2; alternative = /\|/ }' >"$work/depends"

  mapfile -t queue < <(choose_kernel)
  [[ ${#queue[@]} -gt 0 ]] || die 'no kernel package in the index; refresh it with: sudo apt-get update'
  queue+=("${tools[@]}")
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

## Kernel and modules

# The ELF inside the bzImage: it boots by PVH, which saves unpacking it in every boot.
build_kernel() {
  local image cached
  image=$(find_file 'boot/vmlinuz-*')
  # The one slow step, and the kernel changes less often than the recipe.
  cached=$cache/vmlinux-$(sha256sum <"$image" | head -c 16).zst
  if [[ -s $cached ]]; then
    cp "$cached" "$out/vmlinux.zst"
    return
  fi
  extract_vmlinux "$image" >"$work/vmlinux"
  [[ $(head -c4 "$work/vmlinux") == $'\x7fELF' ]] || die "no ELF kernel inside $image"
  zstd -q -19 -T0 -f "$work/vmlinux" -o "$cached.new"
  mv "$cached.new" "$cached"
  cp "$cached" "$out/vmlinux.zst"
}

# Offsets are those of the boot protocol (Documentation/arch/x86/boot.rst). The
# payload ends in its unpacked size, which is part of the format for gzip only.
extract_vmlinux() {
  local image=$1 setup_sectors offset length magic
  setup_sectors=$(read_number "$image" $((0x1f1)) 1)
  offset=$(((setup_sectors + 1) * 512 + $(read_number "$image" $((0x248)) 4)))
  length=$(read_number "$image" $((0x24c)) 4)
  dd if="$image" of="$work/payload" bs=1M iflag=skip_bytes,count_bytes skip="$offset" count="$length" status=none
  magic=$(od -An -tx1 -N4 "$work/payload" | tr -d ' ')
  case $magic in
    02214c18) head -c -4 "$work/payload" | lz4 -dcq ;;
    28b52ffd) head -c -4 "$work/payload" | zstd -dcq ;;
    fd377a58) head -c -4 "$work/payload" | xz -dcq ;;
    1f8b*) gzip -dcq <"$work/payload" ;;
    *) die "the kernel $image is compressed in an unknown way ($magic)" ;;
  esac
}

read_number() {
  od -An -t"u$3" -j"$2" -N"$3" "$1" | tr -d ' '
}

# When a module is loaded, and which. The order file has a line per word: the word,
# then the modules in the order of their dependencies. guest/init reads it.
wanted_modules=(
  'base virtio_ring'
  'base virtio'
  'pci virtio_pci'
  'mmio virtio_mmio'
  'disk virtio_blk'
  'network virtio_net'
  'init autofs4'
  'late virtio_rng'
  'late overlay'
  'late vmw_vsock_virtio_transport'
)

build_modules() {
  local tree=$work/modules stage=$work/modules-root/run/banger/modules entry
  mkdir -p "$stage"
  tree=$(dirname "$(find_file 'lib/modules/*/modules.builtin')")
  module_stage=$stage module_tree=$tree
  local -A module_lines=()
  for entry in "${wanted_modules[@]}"; do add_module "${entry%% *}" "${entry##* }"; done
  for entry in base pci mmio disk network init late; do
    [[ -z ${module_lines[$entry]-} ]] || echo "$entry${module_lines[$entry]}"
  done >"$stage/order"
  pack_cpio "$work/modules-root" >"$out/modules.cpio"
}

# Adds a module after those it depends on, once. Built-in ones need nothing.
add_module() {
  local when=$1 name=${2//-/_} source file dependency
  file=$name.ko
  [[ ! -e $module_stage/$file ]] || return 0
  source=$(find "$module_tree" -name "${name//_/[-_]}.ko*" -print -quit)
  if [[ -z $source ]]; then
    grep -q "/${name//_/[-_]}\.ko\$" "$module_tree/modules.builtin" || die "the kernel has no module $name"
    return 0
  fi
  case $source in
    *.ko) cat "$source" ;;
    *.ko.xz) xz -dc "$source" ;;
    *.ko.zst) zstd -dcq "$source" ;;
    *.ko.gz) gzip -dc "$source" ;;
    *) die "the module $source is compressed in an unknown way" ;;
  esac >"$module_stage/.new"
  for dependency in $(tr '\0' '\n' <"$module_stage/.new" | sed -n 's/^depends=//p' | tr ',' ' '); do
    mv "$module_stage/.new" "$module_stage/.new.$name"
    add_module "$when" "$dependency"
    mv "$module_stage/.new.$name" "$module_stage/.new"
  done
  strip_signature "$module_stage/.new"
  mv "$module_stage/.new" "$module_stage/$file"
  module_lines[$when]+=" $file"
}

# Checking signatures is a sixth of a second of every emulated boot, and tells nothing
# here: who can change the modules can change the kernel beside them. The format is
# the signature, 8 bytes about it, its length (32 bits, big-endian), and a magic line.
strip_signature() {
  local magic='~Module signature appended~' size length
  [[ $(tail -c 28 "$1" | tr -d '\0') == "$magic" ]] || return 0
  size=$(stat -c %s "$1")
  length=$((16#$(tail -c 32 "$1" | od -An -tx1 -N4 | tr -d ' ')))
  truncate -s $((size - 28 - 12 - length)) "$1"
}

## Archives

# Reproducible newc archive of a directory's content, owned by root.
pack_cpio() {
  find "$1" -exec touch -h -d @0 {} +
  (cd "$1" && find . -mindepth 1 -printf '%P\n' | sort | cpio --quiet --reproducible -o -H newc -R 0:0)
}

pack_tar() {
  tar -C "$1" --sort=name --mtime=@0 --owner=0 --group=0 --numeric-owner --format=gnu -cf - .
}

# Copies programs and the libraries they need, found anywhere in the packages.
# Usage: copy_elf PROGRAM_DIR LIBRARY_DIR PROGRAM...
copy_elf() {
  local programs=$1 libraries=$2 program
  shift 2
  mkdir -p "$programs" "$libraries"
  for program; do
    cp -L "$(find_file "$program")" "$programs/"
    chmod 755 "$programs/${program##*/}"
    copy_libraries "$programs/${program##*/}" "$libraries"
  done
}

copy_libraries() {
  local library
  for library in $(patchelf --print-needed "$1") ld-linux-x86-64.so.2; do
    [[ ! -e $2/$library ]] || continue
    cp -L "$(find_file "*/$library")" "$2/$library"
    chmod 755 "$2/$library"
    copy_libraries "$2/$library" "$2"
  done
}

# Makes programs run from a fixed place in any root. Starting them through the
# loader instead would not do: dropbear starts itself again for each connection.
relocate() {
  local libraries=$1 program
  shift
  for program; do
    patchelf --set-interpreter "$libraries/ld-linux-x86-64.so.2" --set-rpath "$libraries" "$program"
  done
}

relocate_libraries() {
  local library
  for library in "$1"/*; do
    [[ ${library##*/} == ld-linux-* ]] || patchelf --set-rpath "$2" "$library"
  done
}

## The toolbox: the initramfs that every guest keeps

build_toolbox() {
  local root=$work/toolbox name
  mkdir -p "$root"/{bin,dev,etc/banger,newroot,newrun,proc,root/.ssh,run/banger/{bin,lib,tmp}}
  # Sockets of forwarded SSH agents are made there, and the image must reach them.
  ln -s run/banger/tmp "$root/tmp"
  chmod 711 "$root/run/banger/tmp"
  cp -r "$recipe/initramfs/." "$root/"
  chmod 700 "$root/etc/banger" "$root/root" "$root/root/.ssh"

  install -m 755 "$(find_file '*bin/busybox')" "$root/run/banger/bin/busybox"
  # The image sees run/banger. What only the SSH service and init use stays outside of it.
  copy_elf "$root/bin" "$root/run/banger/lib" usr/sbin/dropbear '*sbin/resize2fs' '*sbin/e2fsck'
  copy_elf "$root/run/banger/bin" "$root/run/banger/lib" usr/lib/openssh/sftp-server '*bin/setpriv'
  relocate /run/banger/lib "$root"/bin/{dropbear,resize2fs,e2fsck} "$root"/run/banger/bin/{sftp-server,setpriv}
  relocate_libraries "$root/run/banger/lib" /run/banger/lib

  install -m 755 "$recipe/init" "$root/init"
  install -m 755 "$recipe/enter" "$root/bin/enter"
  for name in start-image banger-init session; do
    install -m 755 "$recipe/$name" "$root/run/banger/lib/$name"
  done
  install -m 644 "$recipe/protocol" "$root/run/banger/protocol"
  pack_cpio "$root" >"$work/toolbox.cpio"
  zstd -q -19 -T0 -f "$work/toolbox.cpio" -o "$out/toolbox.cpio.zst"
}

## The default image

build_base() {
  local root=$work/base applet
  mkdir -p "$root"/{bin,dev,etc,home,proc,root,run,sbin,sys,tmp,usr/{bin,sbin,lib/git-core,share/git-core},var/{log,tmp}}
  cp -r "$recipe/base/." "$root/"
  chmod 1777 "$root/tmp" "$root/var/tmp"
  chmod 700 "$root/root"
  echo "VERSION_ID=$(base_version)" >>"$root/etc/os-release"

  install -m 755 "$(find_file '*bin/busybox')" "$root/bin/busybox"
  for applet in $("$root/bin/busybox" --list-full); do
    case /$applet in
      # banger's own init serves this image, and is meant to be found missing here.
      /sbin/init | /linuxrc | /bin/busybox | /usr/bin/git) ;;
      /*/*) ln -s /bin/busybox "$root/$applet" ;;
    esac
  done

  copy_elf "$root/usr/bin" "$root/lib/x86_64-linux-gnu" usr/bin/git
  mkdir -p "$root/lib64"
  mv "$root/lib/x86_64-linux-gnu/ld-linux-x86-64.so.2" "$root/lib64/"
  for applet in git-upload-pack git-receive-pack git-upload-archive; do ln -s git "$root/usr/bin/$applet"; done
  ln -s ../../bin/git "$root/usr/lib/git-core/git"
  copy_git_templates "$root/usr/share/git-core/templates"
  pack_tar "$root" | zstd -q -19 -T0 -f -o "$out/base.tar.zst"
}

# One that changes exactly when the recipe or the packages do.
base_version() {
  input_hash | head -c 12
}

# Without the sample hooks, which are shell and Perl scripts nobody runs.
copy_git_templates() {
  mkdir -p "$1"
  cp -r "$(dirname "$(find_file usr/share/git-core/templates/description)")/." "$1/"
  rm -rf "$1/hooks"
  mkdir -p "$1/hooks" "$1/branches"
}

## git for images that have none

build_git_toolbox() {
  local root=$work/git-toolbox home
  home=$root/run/banger/git
  mkdir -p "$home/bin"
  copy_elf "$home/libexec" "$home/lib" usr/bin/git
  relocate /run/banger/git/lib "$home/libexec/git"
  relocate_libraries "$home/lib" /run/banger/git/lib
  install -m 755 "$recipe/git" "$home/bin/git"
  copy_git_templates "$home/templates"
  pack_tar "$root" | zstd -q -19 -T0 -f -o "$out/git-toolbox.tar.zst"
}

## Manifest

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

main "$@"
