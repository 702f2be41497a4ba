#!/usr/bin/env bash
# From a fresh machine to a command that ran in a microVM with this source tree inside.
#
#   scripts/quickstart.sh
#
# Installs the host packages that are missing (root, or sudo), then the npm packages,
# builds dist/banger, checks the host, and runs the main job. Exits with the code of
# the command in the VM. Run it again: only the checks and the VM are left to do.
set -euo pipefail

here=$(dirname "${BASH_SOURCE[0]}")
# shellcheck source=scripts/steps.sh
source "$here/steps.sh"
# shellcheck source=scripts/host-packages.sh
source "$here/host-packages.sh"
cd "$root"

began=$(now_ms)
trap 'status=$?; [[ $status == 0 || -z $phase_title ]] || printf "\nquickstart: stopped at \"%s\"\n" "$phase_title" >&2' EXIT

phase 'Host packages'
ensure_node
ensure_host_packages < <(runtime_needs; build_needs)
[[ -e ${BANGER_BUILD_CACHE:-.cache}/guest/.stamp ]] || ensure_package_index

phase 'npm packages'
ensure_node_modules

phase 'Build'
npm run --silent build

phase 'Host check'
dist/banger doctor

phase 'A command in a microVM'
# What the VM is, and that this working tree is in it.
# shellcheck disable=SC2016 # For the guest's shell, not for this one.
job='echo "kernel:    $(uname -sr)"; echo "processors: $(nproc)"; echo "directory: $PWD"; git log -1 --format="commit:    %h %s"; git status --short | head -5; ls'
printf "\$ banger vm run . -- sh -c '%s'\n\n" "$job"
status=0
dist/banger vm run . -- sh -c "$job" </dev/null || status=$?

print_phase_times
printf '%-24s %10s\n\n' 'All' "$(seconds $(($(now_ms) - began)))"
if [[ $status == 0 ]]; then
  echo 'The VM is gone again. Next: dist/banger --help'
else
  echo "The command in the VM, or the VM itself, ended with exit code $status." >&2
fi
exit "$status"
