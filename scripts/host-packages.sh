# shellcheck shell=bash
# Finds out which host packages are missing, and installs them. To be sourced.

# What is needed, one per line: a command (or a file), the package that has it, and why.

runtime_needs() {
  cat <<'LIST'
qemu-system-x86_64 qemu-system-x86 runs the VMs
qemu-img qemu-utils makes disks that share their image
git git reads the working tree that goes into a VM
LIST
}

build_needs() {
  cat <<'LIST'
patchelf patchelf makes guest programs run on any root filesystem
cpio cpio packs the initramfs of guests
zstd zstd compresses what is embedded in the binary
lz4 lz4 unpacks the kernel
xz xz-utils unpacks kernel modules
/etc/ssl/certs/ca-certificates.crt ca-certificates lets image registries be verified
LIST
}

test_needs() {
  cat <<'LIST'
e2fsck e2fsprogs checks the filesystems that banger writes
debugfs e2fsprogs reads the filesystems that banger writes
mkfs.xfs xfsprogs makes a filesystem whose files can share blocks
mkfs.btrfs btrfs-progs makes another one
mount mount mounts what banger wrote, for the kernel to read
losetup mount finds loop devices for that
busybox busybox-static stands for the programs of small guests
tcc tcc compiles the guest's own programs, to try them here
ssh openssh-client is the client that users bring
docker-registry docker-registry is a real registry to pull from
skopeo skopeo fills that registry, and is what pulling is compared with
umoci umoci is what unpacking layers is compared with
mmdebstrap mmdebstrap makes a Debian image to boot
strace strace records what is flushed to the disk, and when
tmux tmux gives commands a terminal
getfattr attr reads extended attributes
getfacl acl reads access control lists
rsync rsync is a program that users run over ssh
slirp4netns slirp4netns is a network for VMMs without root
ip iproute2 makes network namespaces, bridges and taps
nft nftables shows the rules that banger makes
/usr/bin/python3 python3 sends forged frames
/usr/bin/perl perl-base answers on a Unix socket in a guest
dig dnsutils asks the name server for VMs
LIST
}

# Reads such a list from stdin and makes everything in it available.
# Returns 1, with the command to run, when packages are missing and cannot be installed here.
ensure_host_packages() {
  local need package why
  local -A missing=()
  while read -r need package why; do
    is_present "$need" || missing[$package]+="${missing[$package]:+; }$why"
  done
  if [[ ${#missing[@]} == 0 ]]; then
    echo 'Everything needed is installed.'
    return 0
  fi
  echo 'Missing on this host:'
  for package in "${!missing[@]}"; do printf '  %-16s %s\n' "$package" "${missing[$package]}"; done | sort
  local packages
  mapfile -t packages < <(printf '%s\n' "${!missing[@]}" | sort)
  install_packages "${packages[@]}"
}

is_present() {
  case $1 in
    /*) [[ -e $1 ]] ;;
    # Administrators' programs are not in every user's PATH.
    *) PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin command -v "$1" >/dev/null ;;
  esac
}

install_packages() {
  local command=(apt-get install -y --no-install-recommends "$@")
  if ! command -v apt-get >/dev/null; then
    printf '\nThis host has no apt-get. Install what Debian calls: %s\n' "$*" >&2
    return 1
  fi
  if ! find_root; then
    printf '\nInstalling needs root, and sudo asks for a password. Run this, then start again:\n\n  sudo %s\n\n' "${command[*]}" >&2
    return 1
  fi
  has_package_index || apt update || return 1
  printf 'Installing: %s\n' "${command[*]}"
  apt "${command[@]:1}" && return
  # An old index names versions that are gone by now.
  echo 'Refreshing the package index, and trying once more'
  if apt update && apt "${command[@]:1}"; then return; fi
  printf '\nInstalling the packages did not work. See above, and try it by hand:\n\n  sudo %s\n\n' "${command[*]}" >&2
  return 1
}

# The build takes the guest's kernel and tools from the distribution, so it needs an index even if nothing gets installed.
ensure_package_index() {
  ! has_package_index || return 0
  echo 'The package index is missing: the guest is built from packages'
  if ! find_root; then
    printf '\nRun this, then start again:\n\n  sudo apt-get update\n\n' >&2
    return 1
  fi
  apt update
}

has_package_index() {
  [[ -n $(apt-cache show --no-all-versions busybox-static 2>/dev/null) ]]
}

# Sets as_root to what has to come before a command, or returns 1.
find_root() {
  if [[ $(id -u) == 0 ]]; then
    as_root=()
  elif sudo -n true 2>/dev/null; then
    as_root=(sudo -n)
  elif [[ -t 0 && -t 2 ]] && command -v sudo >/dev/null; then
    as_root=(sudo)
  else
    return 1
  fi
}

# apt-get as root, without questions, waiting for another one to finish. Its many lines are shown only if it fails.
apt() {
  local log status=0
  log=$(mktemp)
  "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive NEEDRESTART_SUSPEND=1 \
    apt-get -q -o DPkg::Lock::Timeout=120 -o Dpkg::Use-Pty=0 "$@" >"$log" 2>&1 </dev/null || status=$?
  [[ $status == 0 ]] || cat "$log" >&2
  rm -f "$log"
  return "$status"
}
