# shellcheck shell=bash
# What goes into the initramfs, the image base, and the archive of git. To be sourced by build-guest.sh.

## The toolbox: the initramfs that every guest keeps

build_toolbox() {
  local root=$work/toolbox name
  mkdir -p "$root"/{bin,dev,etc/banger,newroot,newrun,proc,root/.ssh,run/banger/{bin,lib,tmp}}
  # Sockets of forwarded SSH agents are made there, and the image must reach them.
  ln -s run/banger/tmp "$root/tmp"
  chmod 711 "$root/run/banger/tmp"
  cp -r "$recipe/initramfs/." "$root/"
  chmod 700 "$root/etc/banger" "$root/root" "$root/root/.ssh"
  # The SSH service connects to where ports are forwarded: names are then what they are in the image.
  for name in hosts resolv.conf; do ln -s "/proc/1/root/etc/$name" "$root/etc/$name"; done

  install -m 755 "$(find_file '*bin/busybox')" "$root/run/banger/bin/busybox"
  # The image sees run/banger. What only the SSH service and init use stays outside of it.
  copy_elf "$root/bin" "$root/run/banger/lib" usr/sbin/dropbear '*sbin/resize2fs' '*sbin/e2fsck'
  copy_elf "$root/run/banger/bin" "$root/run/banger/lib" usr/lib/openssh/sftp-server '*bin/setpriv'
  for name in relay datagrams look place blobs; do compile "$recipe/$name.c" "$root/run/banger/bin/$name"; done
  relocate /run/banger/lib "$root"/bin/{dropbear,resize2fs,e2fsck} "$root"/run/banger/bin/{sftp-server,setpriv}
  relocate_libraries "$root/run/banger/lib" /run/banger/lib

  install -m 755 "$recipe/init" "$root/init"
  install -m 755 "$recipe/enter" "$root/bin/enter"
  for name in start-image banger-init session; do
    install -m 755 "$recipe/$name" "$root/run/banger/lib/$name"
  done
  install -m 644 "$recipe/protocol" "$root/run/banger/protocol"
  install -D -m 644 "$recipe/gitconfig" "$root/run/banger/lib/git/config"
  pack_cpio "$root" >"$work/toolbox.cpio"
  zstd -q -19 -T0 -f "$work/toolbox.cpio" -o "$out/toolbox.cpio.zst"
}

# Compiles a program that needs no libraries, with a compiler that needs none but the C library of this host.
# Usage: compile SOURCE PROGRAM
compile() {
  local compiler=$work/debs/tcc/usr
  "$compiler/bin/tcc" -B "$compiler/lib/x86_64-linux-gnu/tcc" -Wall -Werror -nostdlib -static -o "$2" "$1"
  chmod 755 "$2"
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
