# shellcheck shell=bash
# Archives that are the same each time, and programs that run from a fixed place. To be sourced by build-guest.sh.

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
