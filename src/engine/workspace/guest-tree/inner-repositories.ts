import { guestGitEnvironment, guestGitSettings } from './changes-script.ts';
import { unreadable, type GuestWorkspace } from './guest-changes.ts';

/**
 * Runs a function in a workspace, then in the repositories inside it that its index names; `$prefix` leads there. What
 * is reachable from the workspace's own HEAD counts as merged; files that are in use are those that git does not ignore,
 * and where it keeps what was staged and committed. Hooks and patterns that the repository has by itself count as ignored.
 */
export const insideScript = `
cd "$1" || exit
top=$(pwd -P)
task=$2
shift 2
unset GIT_DIR GIT_WORK_TREE GIT_COMMON_DIR GIT_OBJECT_DIRECTORY GIT_ALTERNATE_OBJECT_DIRECTORIES GIT_NAMESPACE GIT_INDEX_FILE
export ${Object.entries(guestGitEnvironment)
  .map(([name, value]) => `${name}=${value}`)
  .join(' ')}
inside() {
  prefix=$1
  shift
  "$task" "$@" || exit
  "$@" -c core.quotePath=false ls-files -s | sed -n 's/^160000 [0-9a-f]* [0-3]\\t//p' | while IFS= read -r deeper; do
    [ ! -e "$deeper/.git" ] || (cd "$deeper" && inside "$prefix$deeper/" "$@") || exit
  done
}
list() {
  "$@" --format="%(objectname) %(refname) $prefix"
}
own() {
  list "$@" for-each-ref || return
  if [ -n "$prefix" ] && head=$("$@" rev-parse -q --verify HEAD); then echo "$head HEAD $prefix"; fi
}
unmerged() {
  if [ -z "$prefix" ] && "$@" rev-parse -q --verify HEAD >/dev/null; then list "$@" for-each-ref --no-merged=HEAD
  else own "$@"
  fi
}
ignored() {
  "$@" ls-files -z --others --ignored --exclude-standard --directory |
    xargs -0 -r sh -c 'prefix=$1; shift; for each; do printf "%s%s\\0" "$prefix" "$each"; done' sh "$prefix"
  directory=$("$@" rev-parse --absolute-git-dir) || return
  for each in hooks info; do printf '%s/%s\\0' "\${directory#"$top"/}" "$each"; done
}
in_use() {
  "$@" ls-files -z --cached --others --exclude-standard |
    xargs -0 -r sh -c '
      prefix=$1
      shift
      for each; do
        if [ ! -d "$each" ] || [ -L "$each" ]; then printf "./%s%s\\0" "$prefix" "$each"; fi
      done' sh "$prefix"
  directory=$("$@" rev-parse --absolute-git-dir) || return
  for each in HEAD index packed-refs refs; do printf './%s/%s\\0' "\${directory#"$top"/}" "$each"; done
}
`;

export async function inside(
  workspace: GuestWorkspace,
  task: 'own' | 'unmerged' | 'ignored',
): Promise<Buffer> {
  const { guest, guestPath, ensureGit, signal } = workspace;
  const script = `${insideScript}inside '' "$@"`;
  const git = [await ensureGit(), ...guestGitSettings];
  const output = await guest.runToolbox(['sh', '-c', script, 'banger', guestPath, task, ...git], { signal });
  if (output.exit.code === 0) return output.stdout;
  throw unreadable(workspace, output.stderr);
}
