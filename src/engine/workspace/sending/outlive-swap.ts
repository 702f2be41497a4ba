import type { BangerError } from '../../../errors.ts';
import type { BringTexts } from '../applying/bring-texts.ts';
import { findTaken } from '../applying/held-here.ts';
import { sinceApplied } from '../applying/since-applied.ts';
import type { ChangedPath } from '../guest-tree/changes-format.ts';
import { readGuestHead, findFiles } from '../guest-tree/ask-guest.ts';
import { readChanges, unreadable, type GuestWorkspace } from '../guest-tree/guest-changes.ts';
import { inside } from '../guest-tree/inner-repositories.ts';
import { findOwn } from '../guest-tree/own-commits.ts';
import type { WorkingTree } from '../host-tree/inspect-tree.ts';
import { pathText, splitRaw } from '../host-tree/raw-path.ts';
import type { Snapshot } from '../host-tree/snapshot.ts';
import { newPaths } from './new-paths.ts';
import type { Manifest } from './manifest.ts';
import { ignoredName } from './send-tree.ts';
import { updateNames } from './update-names.ts';
import {
  commitsError,
  conflictError,
  shown,
  WouldBeLostError,
  type Place,
  type There,
} from './workspace-place.ts';

interface WantedTree {
  readonly tree: WorkingTree & { readonly scratch: string; readonly snapshot: Snapshot };
  readonly files: Manifest['files'];
  readonly bring: BringTexts;
}

/** Throws when the guest has something that is nowhere else, and would go with the tree. */
export async function refuseLoss(
  place: Place,
  there: There,
  { tree, files, bring }: WantedTree,
): Promise<void> {
  const { changes, isHeadKnown, manifest, workspace, applied } = there;
  const { repository, scratch, snapshot } = tree;
  const { held } = await findTaken(applied, { repository, scratch, env: snapshot.env, now: files, bring });
  // What the guest took back is what was sent: that is not lost.
  const later = sinceApplied(changes.paths, held, () => false);
  const paths = [...later.map(({ path }) => path), ...changes.nested].map(pathText);
  if (paths.length > 0) throw conflictError(place, paths);
  if (!isHeadKnown) throw commitsError(place);
  const own = await findOwn(workspace, 'own', () => withInner(tree).map(({ repository }) => repository));
  if (own.length > 0) throw ownCommits(place, own);
  const found = await findFiles(workspace, newPaths(manifest.files, files, new Set()));
  const isTaken = ({ path, after }: ChangedPath): boolean =>
    [files.get(path), held.get(path)?.guest].some((entry) => entry?.oid === after?.oid);
  const lost = found.filter((each) => !manifest.files.has(each.path) && !isTaken(each));
  if (lost.length > 0)
    throw conflictError(
      place,
      lost.map(({ path }) => pathText(path)),
    );
}

export function ownCommits({ vm, workspace: { guestPath } }: Place, names: readonly string[]): BangerError {
  return new WouldBeLostError(
    'invalid_state',
    `"${guestPath}" in VM "${vm.name}" has commits or stashes that would be lost: ${shown(names)}`,
    { hint: `Give --overwrite, or save the branches first: git fetch banger::${vm.name}${guestPath}` },
  );
}

/** Looks at the guest once more, since all of a tree takes its time to arrive. What is changed later is newer than a mark. */
export async function lookAgain({ workspace, known, ...there }: There): Promise<There> {
  const { guest, guestPath, signal } = workspace;
  const mark = `: >"$1/${updateNames.looked}"`;
  const marked = await guest.runToolbox(['sh', '-c', mark, 'banger', guestPath], { signal });
  if (marked.exit.code !== 0) throw unreadable(workspace, marked.stderr);
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

function withInner(tree: WorkingTree): WorkingTree[] {
  return [tree, ...tree.submodules.flatMap((each) => (each.tree ? withInner(each.tree) : []))];
}
