import { underWayMarks } from './changes-format.ts';
import { keepScript, knownIndexName, knownPathsName, ownIndexName } from './known-index.ts';
import { keepSkippedScript, skippedScript } from './skipped-script.ts';
import { tellScript } from './told-changes.ts';
import { toldScript } from './told-script.ts';

/** Settings under which git looks at a workspace: the guest's own are part of what may have changed. */
export const guestGitSettings = [
  'advice.addEmbeddedRepo=false',
  'core.fsmonitor=false',
  'core.hooksPath=/dev/null',
  'core.attributesFile=/dev/null',
  'core.excludesFile=/dev/null',
  'core.quotePath=true',
  'core.safecrlf=false',
  'core.sparseCheckout=false',
  'core.splitIndex=false',
  'core.untrackedCache=false',
  // What was sent bears the times of the host's files; their inodes are the guest's own.
  'core.checkStat=minimal',
  'core.trustctime=false',
  'i18n.logOutputEncoding=UTF-8',
  'index.sparse=false',
  // Of indexes that git writes for us; one of a large tree takes longer to hash than to write.
  'index.skipHash=true',
  'safe.directory=*',
].flatMap((setting) => ['-c', setting]);

/**
 * In guests: see `guest/gitconfig`. It says once more what the settings say of directories of other owners, for git before
 * 2.38. Guests that were started by an older build have none, which is as if it were empty.
 */
const guestConfigDirectory = '/run/banger/lib';

export const guestGitEnvironment = {
  GIT_CONFIG_NOSYSTEM: '1',
  GIT_CONFIG_GLOBAL: `${guestConfigDirectory}/git/config`,
  // Git before 2.32 does not know the former.
  XDG_CONFIG_HOME: guestConfigDirectory,
  GIT_LITERAL_PATHSPECS: '1',
  GIT_OPTIONAL_LOCKS: '0',
  GIT_TERMINAL_PROMPT: '0',
  LC_ALL: 'C',
};

/** Stands for whichever git there is, the image's or ours. */
export const anyGit = 'auto';
/** Exit code when there is none. */
export const noGitExitCode = 97;

/**
 * Enters a workspace and makes `"$@"` its git. Parameters: path, base, program, format; git's settings after them.
 * The toolbox's shell runs it.
 */
const enterScript = `
path=$1 base=$2 program=$3 format=$4
shift 4
cd "$path" || exit
unset GIT_DIR GIT_WORK_TREE GIT_COMMON_DIR GIT_OBJECT_DIRECTORY GIT_ALTERNATE_OBJECT_DIRECTORIES GIT_NAMESPACE GIT_INDEX_FILE
export ${Object.entries(guestGitEnvironment)
  .map(([name, value]) => `${name}=${value}`)
  .join(' ')}
export GIT_CEILING_DIRECTORIES="\${path%/*}"
if [ "$program" = ${anyGit} ]; then
  if command -v git >/dev/null; then program=git
  elif [ -x /run/banger/git/bin/git ]; then program=/run/banger/git/bin/git
  else exit ${noGitExitCode}
  fi
fi
set -- "$program" "$@"
# Looking at files by several threads is for several processors.
if read -r processors </sys/devices/system/cpu/online 2>/dev/null && [ "$processors" = 0 ]; then
  set -- "$@" -c core.preloadIndex=false
fi
if [ -d .git ]; then directory=$path/.git; else directory=$("$@" rev-parse --absolute-git-dir) || exit; fi
`;

/** Where indexes are: the workspace's own, and ours. Then `mine` is git with that index. */
const placesScript = `
own=$directory/index kept=$directory/${knownIndexName} covers=$directory/${knownPathsName}
index=$directory/banger-export-index.$$
for stale in "$directory"/banger-export-index*; do
  [ ! -e "$stale" ] || rm -f "$stale"
done
trap 'rm -f "$index" "$index".*' EXIT
trap 'exit 1' HUP INT TERM
mine() { GIT_INDEX_FILE=$index "$@"; }
`;

/**
 * Fills an index of our own with the workspace as it is: committed or not, staged or not, untracked files included,
 * and ignored ones that were sent, or that somebody added to git all the same. Then `mine` is git with that index.
 *
 * The workspace's own index, references and files are left alone. What that index knows of the files (sizes, times)
 * is what makes this fast, so it begins as a copy of it, or of ours from the last time, whichever is newer; a file
 * is read only when it differs. `cp -p`, since git compares the time of the index with those of files.
 *
 * When ours is known to have the paths of the base, one look by git suffices: nothing that is ignored, or that git was
 * told not to look at, can be elsewhere than among those.
 *
 * Prints a line for each repository inside the workspace that has changes which git does not see from here, or that
 * has no commit.
 */
const indexScript = `
uptime() {
  read -r up rest </proc/uptime
  up=\${up%.*}
}
quick=
look_quickly() {
  [ -f "$covers" ] && read -r known rest <"$covers" && [ "$known" = "$base" ] || return
  [ "$own" -ef "$directory/${ownIndexName}" ] && [ ! "$own" -nt "$covers" ] || return
  uptime
  quick=$up
  # A repository inside is looked into; it is told from a file by the slash.
  if { ln "$kept" "$index" 2>/dev/null || cp -p "$kept" "$index"; } &&
    mine "$@" add -A -v >"$index.added" 2>/dev/null && ! { [ -s "$index.added" ] && grep -q "/'$" "$index.added"; }; then
    uptime
    quick=$((up - quick))
  else
    quick=
    rm -f "$index"
    return 1
  fi
}
begin() {
  [ -z "$from" ] || cp -p "$from" "$index" || exit
}
# The base, with what is known of files that are in it as they were.
read_base() {
  mine "$@" read-tree --reset "$base" 2>/dev/null && return
  rm -f "$index" && mine "$@" read-tree "$base" || exit
}
# Whether a repository inside is as it was sent or, when nobody sent it, as its commit; those in it, too. More than 128,
# as of a program that was killed, says that it is not known.
as_sent() (
  case $1 in \\"*) exit 1 ;; esac # a name that cannot be told apart here
  cd "$1" 2>/dev/null && [ -e .git ] || exit 0
  shift
  at=$("$@" rev-parse --absolute-git-dir) || exit
  sent=$("$@" rev-parse -q --verify 'refs/banger/base^{tree}' || "$@" rev-parse -q --verify 'HEAD^{tree}') || exit
  GIT_INDEX_FILE=$at/banger-export-index.$$
  export GIT_INDEX_FILE
  trap 'rm -f "$GIT_INDEX_FILE"' EXIT
  "$@" read-tree "$sent" && "$@" add -A && tree=$("$@" write-tree) && [ "$tree" = "$sent" ] || exit
  "$@" -c core.quotePath=false ls-files -s | sed -n 's/^160000 [0-9a-f]* [0-3]\\t//p' | while IFS= read -r deeper; do
    as_sent "$deeper" "$@" || exit
  done
)
look() {
  from=
  [ ! -e "$own" ] || from=$own
  [ ! -e "$kept" ] || [ "$own" -nt "$kept" ] || from=$kept
  : >"$index.odd"
  if [ -n "$from" ]; then
    {
      GIT_INDEX_FILE=$from "$@" -c core.quotePath=false ls-files -s -v 2>/dev/null
      echo "ended $?"
    } | grep -E '^([a-zS]|. 160000|ended) ' >"$index.odd" &
  fi
  begin
  read_base "$@"
  wait
  # Whatever was killed has not told all.
  [ -z "$from" ] || grep -Eq '^ended (.|..|12[0-8])$' "$index.odd" || exit
  # Files that git was told not to look at are looked at.
  if grep -q '^[a-zS] ' "$index.odd"; then
    begin
    sed -n 's/^[a-zS] [0-9]* [0-9a-f]* [0-3]\\t//p' "$index.odd" >"$index.unseen"
    mine "$@" update-index --no-assume-unchanged --stdin <"$index.unseen" || exit
    mine "$@" update-index --no-skip-worktree --stdin <"$index.unseen" || exit
    read_base "$@"
  fi
  "$@" ls-files -z --cached --ignored --exclude-standard >"$index.forced" &
  forced=$!
  if ! mine "$@" add -A --ignore-errors 2>"$index.errors"; then
    grep '^error:' "$index.errors" | grep -qv 'does not have a commit checked out$' && { cat "$index.errors" >&2; exit 1; }
    grep '^fatal:' "$index.errors" | grep -qv 'adding files failed$' && { cat "$index.errors" >&2; exit 1; }
    sed -n "s/^error: '\\(.*\\)\\/' does not have a commit checked out$/\\1/p" "$index.errors"
  fi
  wait "$forced" || [ $? -le 128 ] || exit
  if [ -s "$index.forced" ]; then
    # A directory that took the place of such a file is none to git, which has seen that the file is gone.
    xargs -0 sh -c 'for path; do [ -d "$path" ] && [ ! -L "$path" ] || printf "%s\\0" "$path"; done' sh \\
      <"$index.forced" >"$index.files" && mine "$@" update-index --add --remove -z --stdin <"$index.files" || exit
  fi
  sed -n 's/^. 160000 [0-9a-f]* [0-3]\\t//p' "$index.odd" | sort -u | while IFS= read -r inner; do
    as_sent "$inner" "$@" && continue
    [ $? -le 128 ] || exit 3
    printf '%s\\n' "$inner"
  done || exit
}
[ -n "$told" ] || look_quickly "$@" || look "$@"
`;

/**
 * Prints what git is in the middle of, and the files with conflicts, as no path is written: `./merge`, `.//a/file`.
 * The workspace's own index has them; where git has merged with conflicts, it has left a mark. Then a line with a dot.
 */
const unfinishedScript = `
unfinished=
[ ! -e "$directory/AUTO_MERGE" ] || unfinished=yes
for mark in ${Object.entries(underWayMarks)
  .map(([file, what]) => `${file}=${what}`)
  .join(' ')}; do
  [ -e "$directory/\${mark%=*}" ] || continue
  unfinished=yes
  echo "./\${mark#*=}"
done
[ -z "$unfinished" ] || "$@" ls-files -u | sed -n 's/^[0-7]* [0-9a-f]* [1-3]\\t/.\\/\\//p' | sort -u
echo .
`;

/**
 * What root has made in the repository of somebody that the tree was given to, objects above all, is theirs: their git
 * could not write beside it. `$directory` is the repository. A file that has a name elsewhere, too, is somebody else's: it
 * could be any of root's that they have put there. The index has names of ours, all here.
 */
export const giveBackScript = `
if [ ! -O "$directory" ]; then
  # Another git at work there takes files away.
  find "$directory" -user 0 '(' -type d -o -links 1 ')' -exec chown -h "$(stat -c %u:%g "$directory")" {} + 2>/dev/null || :
  names=0
  for name in index ${ownIndexName} ${knownIndexName}; do
    [ ! "$directory/$name" -ef "$directory/index" ] || names=$((names + 1))
  done
  if [ "$names" -gt 1 ] && [ "$(stat -c %h "$directory/index")" = "$names" ]; then
    chown -h "$(stat -c %u:%g "$directory")" "$directory/index" 2>/dev/null || :
  fi
fi
`;

/** What a comparison is shown as; the last of the script's output. */
const diffScript = `
comparison='diff-index --cached --no-abbrev --full-index --no-renames --no-ext-diff --no-textconv --no-color -U3'
comparison="$comparison --src-prefix=a/ --dst-prefix=b/ --raw --numstat $format $base"
# shellcheck disable=SC2086
if [ -n "$told" ]; then with_paths "$@" $comparison -- <"$index.paths" || exit
else mine "$@" $comparison || exit
fi
`;

/**
 * Prints what differs between a tree, the base, and a workspace. `format`: more arguments for git diff-index. First,
 * what `tellScript` prints; then standard input has to be there: empty, or as `toldScript` reads it.
 */
export const changesScript = `${tellScript}${enterScript}${placesScript}${toldScript}${indexScript}${skippedScript}${keepSkippedScript}${unfinishedScript}${diffScript}${keepScript}${giveBackScript}`;

/** Where the state of a workspace that is not committed can be fetched. */
export const worktreeReference = 'refs/banger/worktree';

/**
 * Makes a commit of a workspace as it is, on top of HEAD, and a reference to it; the same one while nothing changes,
 * and HEAD itself when all is committed. Prints it, and the branch of HEAD, or what HEAD is without one.
 */
export const worktreeScript = `${enterScript}${placesScript}told=${indexScript}${skippedScript}
keep_skipped all "$@"
tree=$(mine "$@" write-tree) || exit
reference=${worktreeReference}
head=$("$@" rev-parse -q --verify 'HEAD^{commit}') || head=
known="$("$@" rev-parse -q --verify "$reference^{tree}") $("$@" rev-parse -q --verify "$reference^")"
if [ -n "$head" ] && [ "$("$@" rev-parse "$head^{tree}")" = "$tree" ]; then commit=$head
elif [ "$known" = "$tree $head" ]; then commit=$("$@" rev-parse "$reference") || exit
else
  export GIT_AUTHOR_NAME=banger GIT_AUTHOR_EMAIL=banger@localhost
  export GIT_COMMITTER_NAME=banger GIT_COMMITTER_EMAIL=banger@localhost
  message='Working tree of the VM, with what is not committed'
  commit=$(echo "$message" | "$@" commit-tree "$tree" \${head:+-p "$head"}) || exit
fi
"$@" update-ref "$reference" "$commit" || exit
branch=$("$@" symbolic-ref -q HEAD) || branch=detached
[ -n "$head" ] || branch=unborn
${keepScript}${giveBackScript}
echo "worktree $commit $branch"
`;
