# shellcheck shell=bash
# The kernel as an ELF, and the modules that guests boot with. To be sourced by build-guest.sh.

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
