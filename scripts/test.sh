#!/usr/bin/env bash
# Everything that has to be true before a change goes in.
#
#   scripts/test.sh [--unit | --system] [-k PATTERN]
#
# Installs what the tests need, builds dist/banger, then runs types, lint, format check,
# unit tests, and system tests that boot real VMs (under emulation if there is no KVM). At last, QEMU on KVM in a VM
# that has one, unless all of that took 25 minutes: always with BANGER_TEST_LAB=1, which has more, never with 0.
# Where the tests took 20 minutes before crashes are tried, each third of them is, unless BANGER_TEST_CRASHES=all.
#
#   --unit      no build, no VMs: checks and unit tests
#   --system    build and system tests
#   -k PATTERN  only tests whose name matches; no other checks
#
# The last line adds up tests and checks. The exit code is 0 when nothing failed.
set -euo pipefail

here=$(dirname "${BASH_SOURCE[0]}")
# shellcheck source=scripts/steps.sh
source "$here/steps.sh"
# shellcheck source=scripts/host-packages.sh
source "$here/host-packages.sh"
cd "$root"

test_begun=$(date +%s)

main() {
  local unit=yes system=yes pattern=
  while [[ $# -gt 0 ]]; do
    case $1 in
      --unit) system=no ;;
      --system) unit=no ;;
      -k) pattern=${2:?"-k needs a pattern"} && shift ;;
      -h | --help) usage && exit 0 ;;
      *) usage >&2 && exit 2 ;;
    esac
    shift
  done
  [[ $unit$system != nono ]] || { usage >&2 && exit 2; }

  results=$(mktemp -d)
  begun=$(mktemp -d)
  begun_pids=()
  trap 'rm -rf "$results" "$begun"' EXIT

  phase 'Host packages'
  ensure_node
  install_needs "$system"

  phase 'npm packages'
  ensure_node_modules
  # From here on, "node" is the one that gets embedded.
  PATH=$root/node_modules/.bin:$PATH

  if [[ $unit == yes && -z $pattern ]]; then
    phase 'Types, lint, format'
    begin_check 'Types' tsc --noEmit
    begin_check 'Lint' eslint .
    begin_check 'Format' prettier --check .
    end_checks
  fi
  # Before unit tests, of which some read what it downloads.
  [[ $system == no ]] || check 'Build' scripts/build-sea.sh
  [[ $unit == no ]] || tests unit "$pattern"
  # Without a build there is nothing to boot; that has been counted as failed.
  if [[ $system == yes && $last_check == 0 ]]; then
    tests system "$pattern"
    lab_tests "$pattern"
  fi

  print_phase_times
  print_summary
}

usage() {
  sed -n '2,/^set/ s/^# \{0,1\}//p' "${BASH_SOURCE[0]}"
}

install_needs() {
  local had_registry=no
  ! is_present docker-registry || had_registry=yes
  if [[ $1 == yes ]]; then
    ensure_host_packages < <(runtime_needs; build_needs; test_needs)
    [[ -e ${BANGER_BUILD_CACHE:-.cache}/guest/.stamp ]] || ensure_package_index
  else
    ensure_host_packages < <(test_needs)
  fi
  # The tests start registries of their own. The package's would be open to everybody, from now on.
  if [[ $had_registry == no && -d /run/systemd/system ]] && find_root; then
    "${as_root[@]}" systemctl disable --now docker-registry >/dev/null 2>&1 || true
  fi
}

# Runs a command as one phase that counts as one test. A failure is recorded, and the rest still runs.
check() {
  local title=$1 status=0
  shift
  phase "$title"
  "$@" || status=$?
  record_check "$status" "$title" "$@"
  last_check=$status
}

# Starts a check of one processor beside those that were begun before it. end_checks says what came of it.
begin_check() {
  local title=$1
  shift
  {
    local status=0
    "$@" || status=$?
    record_check "$status" "$title" "$@"
  } >"$begun/${#begun_pids[@]}" 2>&1 &
  begun_pids+=("$!")
}

# Waits for the checks that were begun, and prints each one's output whole, in their order.
end_checks() {
  local index
  for index in "${!begun_pids[@]}"; do
    wait "${begun_pids[index]}"
    cat "$begun/$index"
  done
  begun_pids=()
}

record_check() {
  local status=$1 title=$2
  shift 2
  if [[ $status == 0 ]]; then
    printf 'passed\t%s\n' "$title" >>"$results/checks"
  else
    printf 'failed\t%s: "%s" exited with %s\n' "$title" "$*" "$status" >>"$results/checks"
  fi
}

tests() {
  local project=$1 pattern=$2 status=0 summary=$results/$1
  local options=(--project "$project*" --reporter=default --reporter=./scripts/summary-reporter.ts --passWithNoTests)
  [[ -z $pattern ]] || options+=(-t "$pattern")
  phase "${project^} tests"
  BANGER_TEST_BEGUN=$test_begun BANGER_TEST_SUMMARY=$summary vitest run "${options[@]}" || status=$?
  if [[ $status != 0 ]] && ! grep -qs '^failed' "$summary"; then
    printf 'failed\t%s tests: vitest exited with %s\n' "${project^}" "$status" >>"$summary"
  fi
}

# What takes a host with a KVM that works, in a VM that is one. A slow host has done enough by then.
lab_latest_seconds=1500

lab_tests() {
  local pattern=$1 wish=${BANGER_TEST_LAB-} reason=
  if [[ -z $wish && -z $pattern ]]; then
    wish=quick
    if ((SECONDS >= lab_latest_seconds)); then
      wish=0
      reason="the tests before it took $SECONDS s; ask for it with: BANGER_TEST_LAB=1 scripts/test.sh --system"
    fi
  fi
  BANGER_TEST_LAB=$wish BANGER_TEST_LAB_REASON=$reason tests lab "$pattern"
}

print_summary() {
  local passed failed skipped
  passed=$(count passed)
  failed=$(count failed)
  skipped=$(count skipped)
  if [[ $skipped != 0 ]]; then
    printf '\n==== Skipped\n\n'
    lines skipped | awk -F'\t' '{ printf "%s\n    because: %s\n", $2, $3 }'
  fi
  if [[ $failed != 0 ]]; then
    printf '\n==== Failed\n\n'
    lines failed | awk -F'\t' '{ print $2 } $3 != "" { printf "    because: %s\n", $3 }'
  fi
  printf '\n%s passed, %s failed, %s skipped\n' "$passed" "$failed" "$skipped"
  # No tests at all means that something is wrong with the selection.
  [[ $failed == 0 && $((passed + skipped)) -gt 0 ]]
}

lines() {
  cat "$results"/* 2>/dev/null | grep "^$1	" || true
}

count() {
  lines "$1" | wc -l
}

main "$@"
