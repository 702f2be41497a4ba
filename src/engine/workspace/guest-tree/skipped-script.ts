/**
 * For `changesScript`: files that git there was told to leave out of the tree, and that are not in it, are in our index as
 * in the workspace's own. Nobody has deleted them. `base`: those alone that the base has, since a sparse checkout of the
 * host's was sent without the others.
 *
 * Names are compared as git quotes them. What is at the place of such a file, above it or below, stays.
 */
export const skippedScript = `
keep_skipped() {
  which=$1
  shift
  "$@" ls-files -s -t | sed -n 's/^S //p' >"$index.skipped"
  [ -s "$index.skipped" ] || return 0
  {
    mine "$@" ls-files | sed 's/^/t/'
    [ "$which" = all ] || "$@" ls-tree -r --name-only --full-tree "$base" | sed 's/^/k/'
    sed 's/^/s/' "$index.skipped"
  } | awk -v which="$which" '
    { kind = substr($0, 1, 1); name = line = substr($0, 2) }
    kind == "s" { name = substr(line, index(line, "\\t") + 1) }
    name ~ /^"/ { name = substr(name, 2, length(name) - 2) }
    kind == "k" { known[name] = 1; next }
    kind == "t" {
      there[name] = 1
      while (match(name, "/[^/]*$")) { name = substr(name, 1, RSTART - 1); above[name] = 1 }
      next
    }
    name in there || name in above || (which == "base" && !(name in known)) { next }
    {
      while (match(name, "/[^/]*$")) { name = substr(name, 1, RSTART - 1); if (name in there) next }
      print line
    }' >"$index.kept" && mine "$@" update-index --index-info <"$index.kept" || exit
}
`;

/** Only where there is something of the kind, since that takes git's time. */
export const keepSkippedScript = `
sent=
[ ! -f "$directory/refs/banger/base" ] || read -r sent <"$directory/refs/banger/base"
if [ -z "$told" ] && { [ -e "$directory/info/sparse-checkout" ] || [ "$base" != "$sent" ]; }; then
  keep_skipped base "$@"
fi
`;
