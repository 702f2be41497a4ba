import type { BangerError } from '../../../errors.ts';
import { readGuestHead, findFiles } from '../guest-tree/ask-guest.ts';
import { guestGitEnvironment, guestGitSettings } from '../guest-tree/changes-script.ts';
import { readChanges, unreadable, type GuestWorkspace } from '../guest-tree/guest-changes.ts';
import type { WorkingTree } from '../host-tree/inspect-tree.ts';
import { pathText, splitRaw } from '../host-tree/raw-path.ts';
import { newPaths } from './build-update.ts';
import type { Manifest } from './manifest.ts';
import { ignoredName } from './send-tree.ts';
import { conflictError, shown, WouldBeLostError, type Place, type There } from './workspace-place.ts';

/** Throws when the guest has something that is nowhere else, and would go with the tree. */
export async function refuseLoss(
  place: Place,
  there: There,
  { tree, files }: { readonly tree: WorkingTree; readonly files: Manifest['files'] },
): Promise<void> {
  const { changes, isHeadKnown, manifest, workspace } = there;
  const paths = [...changes.files.map((file) => file.path), ...changes.nested.map(pathText)];
  if (paths.length > 0) throw conflictError(place, paths);
  if (!isHeadKnown) throw conflictError(place, [], 'commits');
  const own = await findOwn(workspace, tree);
  if (own.length > 0) throw ownCommits(place, own);
  const found = await findFiles(workspace, newPaths(manifest.files, files, new Set()));
  const lost = found.filter(
    ({ path, after }) => !manifest.files.has(path) && after?.oid !== files.get(path)?.oid,
  );
  if (lost.length > 0)
    throw conflictError(
      place,
      lost.map(({ path }) => pathText(path)),
    );
}

function ownCommits({ vm, workspace: { guestPath } }: Place, names: readonly string[]): BangerError {
  return new WouldBeLostError(
    'invalid_state',
    `"${guestPath}" in VM "${vm.name}" has commits or stashes that would be lost: ${shown(names)}`,
    { hint: `Give --overwrite, or save the branches first: git fetch banger::${vm.name}${guestPath}` },
  );
}

/** Looks at the guest once more: all of a tree takes its time to arrive. */
export async function lookAgain({ workspace, known, ...there }: There): Promise<There> {
  const [changes, head] = await Promise.all([readChanges(workspace), readGuestHead(workspace, known.head)]);
  return { ...there, workspace, known, changes, ...head };
}

/**
 * Notes what git ignores in a workspace, so that it is carried over to the tree that takes its place; but for what was
 * sent: that goes when it is not sent any more.
 */
export async function noteIgnored(workspace: GuestWorkspace, { files }: Manifest): Promise<void> {
  const { guest, guestPath, signal } = workspace;
  const ignored = splitRaw(await inside(workspace, 'ignored')).filter((path) => !files.has(path));
  const input = Buffer.from(ignored.map((path) => `${path}\0`).join(''), 'latin1');
  const script = `exec cat >"$1/${ignoredName}"`;
  const noted = await guest.runToolbox(['sh', '-c', script, 'banger', guestPath], { input, signal });
  if (noted.exit.code !== 0) throw unreadable(workspace, noted.stderr);
}

/** Commits at the tips of branches and stashes of the guest that the host does not have, as git names those. */
async function findOwn(workspace: GuestWorkspace, tree: WorkingTree): Promise<string[]> {
  const listed = (await inside(workspace, 'own')).toString('utf8').split('\n');
  const names = new Map<string, string>();
  for (const line of listed) {
    const [, oid, name] = /^([0-9a-f]{40,64}) (.+)$/.exec(line) ?? [];
    if (oid !== undefined) names.set(oid, name!.replace(/refs\/(?:heads\/)?/, ''));
  }
  for (const { repository } of withInner(tree)) {
    if (names.size === 0) break;
    const input = Buffer.from([...names.keys()].map((oid) => `${oid}\n`).join(''));
    const known = await repository.git(['cat-file', '--batch-check=%(objectname) %(objecttype)'], { input });
    for (const line of known.stdout.toString('latin1').split('\n')) {
      const [oid, type] = line.split(' ');
      if (type === 'commit') names.delete(oid!);
    }
  }
  return [...names.values()];
}

function withInner(tree: WorkingTree): WorkingTree[] {
  return [tree, ...tree.submodules.flatMap((each) => (each.tree ? withInner(each.tree) : []))];
}

/** Runs a function in a workspace, then in the repositories inside it that its index names; `$prefix` leads there. */
const insideScript = `
cd "$1" || exit
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
own() {
  "$@" for-each-ref --format="%(objectname) $prefix%(refname)" refs/heads refs/stash || return
  if [ -n "$prefix" ] && head=$("$@" rev-parse -q --verify HEAD); then echo "$head $prefix"; fi
}
ignored() {
  "$@" ls-files -z --others --ignored --exclude-standard --directory |
    xargs -0 -r sh -c 'prefix=$1; shift; for each; do printf "%s%s\\0" "$prefix" "$each"; done' sh "$prefix"
}
`;

async function inside(workspace: GuestWorkspace, task: 'own' | 'ignored'): Promise<Buffer> {
  const { guest, guestPath, ensureGit, signal } = workspace;
  const script = `${insideScript}inside '' "$@"`;
  const git = [await ensureGit(), ...guestGitSettings];
  const output = await guest.runToolbox(['sh', '-c', script, 'banger', guestPath, task, ...git], { signal });
  if (output.exit.code === 0) return output.stdout;
  throw unreadable(workspace, output.stderr);
}
