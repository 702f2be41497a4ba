# shellcheck shell=bash
# What quickstart.sh and test.sh share. To be sourced.

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)

now_ms() {
  echo $(($(date +%s%N) / 1000000))
}

seconds() {
  printf '%d.%d s' $(($1 / 1000)) $(($1 % 1000 / 100))
}

# Ends the phase before, if any, and begins one.
phase() {
  end_phase
  phase_title=$1
  phase_began=$(now_ms)
  printf '\n==== %s\n\n' "$phase_title"
}

end_phase() {
  [[ -n ${phase_title-} ]] || return 0
  phase_times+=("$(printf '%-24s %10s' "$phase_title" "$(seconds $(($(now_ms) - phase_began)))")")
  phase_title=
}

print_phase_times() {
  end_phase
  printf '\n==== Time\n\n'
  printf '%s\n' "${phase_times[@]}"
}

phase_title=
phase_times=()

# The system's Node only runs npm: everything else runs on the Node in node_modules.
ensure_node() {
  local version
  if ! command -v node >/dev/null || ! command -v npm >/dev/null; then
    printf 'Node 20 or newer and npm are needed, and %s is not installed.\n' \
      "$(command -v node >/dev/null && echo npm || echo node)" >&2
    suggest_node
    return 1
  fi
  version=$(node -p process.versions.node)
  if ((${version%%.*} < 20)); then
    echo "Node 20 or newer is needed, and this is Node $version ($(command -v node))." >&2
    suggest_node
    return 1
  fi
}

suggest_node() {
  local candidate
  candidate=$(apt-cache policy nodejs 2>/dev/null | sed -n 's/^ *Candidate: *\([0-9]*:\)\?\([0-9]*\).*/\2/p')
  if ((${candidate:-0} >= 20)); then
    printf '\n  sudo apt-get install -y --no-install-recommends nodejs npm\n\n' >&2
  else
    printf '\nThis distribution has no such version: see https://nodejs.org/en/download\n\n' >&2
  fi
}

# npm ci, unless node_modules is what the lock file says.
ensure_node_modules() {
  if node "$root/scripts/node-modules-current.mjs"; then
    echo 'node_modules matches package-lock.json.'
    return
  fi
  (cd "$root" && npm ci --no-audit --no-fund --no-update-notifier --loglevel=error)
}
