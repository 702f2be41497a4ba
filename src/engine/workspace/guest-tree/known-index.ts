/**
 * In the guest's repository: an index of the files as they were sent or last looked at, so that only those which
 * look changed are read. It has none of the marks by which git is told not to look at a file.
 */
export const knownIndexName = 'banger-known-index';

/**
 * In the guest's repository, while that index has the very paths of the base, all those of the workspace's own index
 * among them: the base.
 */
export const knownPathsName = 'banger-known-paths';

/**
 * The workspace's own index as it was then, by a second name: git replaces its index and never writes into it, so that
 * the two are one file for as long as nobody has staged anything.
 */
export const ownIndexName = 'banger-own-index';

/** Of changed files together; less is read again in the time that it takes to find out whether it may be kept. */
const worthwhileMib = 8;

/** Keeps what is known of the files for the next time. */
export const keepScript = `
# How much git has read to look at all; about, since a name may have a line break in it.
read_mib() {
  sed -n "s/^add '\\(.*\\)'$/\\1/p" "$index.added" | tr '\\n' '\\0' | xargs -0 -r stat -c %s -- 2>/dev/null |
    awk '{ sum += $1 } END { print int(sum / 1048576) }'
}
# Whether an index has differences of these kinds from the base.
differs() {
  kinds=$1 compared=$2
  shift 2
  [ -n "$(GIT_INDEX_FILE=$compared "$@" diff-index --cached --no-renames --name-only "--diff-filter=$kinds" "$base" | head -c 1)" ]
}
if [ -n "$told" ]; then :
elif [ -n "$quick" ]; then
  # Reading the same much each time would not be worth it; an index with other paths is not what it has to be.
  if [ "$quick" -ge 2 ] && [ ! "$index" -ef "$kept" ] && [ "$(read_mib)" -ge ${worthwhileMib} ] && ! differs AD "$index" "$@"; then
    mv -f "$index" "$kept"
  fi
else
  rm -f "$covers"
  mv -f "$index" "$kept"
  linked=$directory/${ownIndexName}
  # A link that is there stays: another would count as a change of the index.
  if [ -e "$own" ] && { [ "$own" -ef "$linked" ] || ln -f "$own" "$linked"; } && ! grep -q '^. 160000 ' "$index.odd" && ! differs ADU "$kept" "$@" &&
    ! differs AU "$linked" "$@"; then
    echo "$base" >"$index.covers" && mv -f "$index.covers" "$covers"
  fi
fi
`;
