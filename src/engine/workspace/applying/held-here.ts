import { isSameEntry, type GitEntry } from '../guest-tree/changes-format.ts';
import type { RawPath } from '../host-tree/raw-path.ts';
import type { Repository } from '../host-tree/repository.ts';
import type { GitVariables } from '../host-tree/scratch-objects.ts';
import type { BringTexts } from './bring-texts.ts';
import { hasOwnMarkers } from './merge-content.ts';
import type { Applied, AppliedPath, AppliedPaths } from './since-applied.ts';
import { findThrownAway, type Reworked } from './thrown-away.ts';

/** The host's tree, and what it takes to compare it with what was applied. */
export interface HostView {
  readonly repository: Repository;
  /** For git that reads the tree's content, and what is brought */
  readonly env: GitVariables;
  readonly scratch: string;
  readonly now: ReadonlyMap<RawPath, GitEntry>;
  readonly bring: BringTexts;
}

export interface Held {
  /** What the tree still has */
  readonly held: AppliedPaths;
  /** Those of it in which nobody has resolved the conflict markers yet */
  readonly marked: ReadonlySet<RawPath>;
  /** What is to be remembered: without what was taken out of the tree, whatever is edited there later */
  readonly known: AppliedPaths;
}

/** What the host's tree has of what was applied; of a file with conflict markers nobody knows yet what it will have. */
export async function findTaken(applied: Applied | undefined, view: HostView): Promise<Held> {
  const { held, ...rest } = await heldHere(applied ?? { paths: new Map() }, view);
  return { ...rest, held: new Map([...held].filter(([path]) => !rest.marked.has(path))) };
}

/**
 * Finds out what of it the host's tree still has. A file that is as it was sent, be it in some lines that the guest
 * changed, has nothing of the guest there any more, and what was applied on one branch is not on another that parted
 * before; unless it is there to the byte.
 */
export async function heldHere({ paths, ...then }: Applied, view: HostView): Promise<Held> {
  const { repository, now } = view;
  const [held, known, marked] = [new Map(paths), new Map(paths), new Set<RawPath>()];
  if (paths.size === 0) return { held, marked, known };
  const isSameLine = await isLaterThan(then, repository);
  const reworked = new Map<RawPath, Reworked>();
  for (const [path, each] of paths) {
    const entry = now.get(path);
    if (isSameEntry(entry, each.guest)) continue;
    // What git does not track may be there, and is not sent.
    if (!isSameLine || (!entry && !each.sent)) held.delete(path);
    else if (each.how === 'ours') continue;
    else if (await hasMarkers(each, entry, view)) marked.add(path);
    else {
      const fate = fateOf(each, entry);
      if (fate === 'here') continue;
      held.delete(path);
      known.delete(path);
      if (typeof fate === 'object') reworked.set(path, fate);
    }
  }
  for (const [path, each] of await stillThere(reworked, paths, view)) {
    held.set(path, each);
    known.set(path, each);
  }
  return { held, marked, known };
}

/** What became of a file, or what it takes to find out. */
function fateOf(
  { sent, guest, how }: AppliedPath,
  now: GitEntry | undefined,
): 'here' | 'thrown away' | Reworked {
  if (isSameEntry(now, sent)) return 'thrown away';
  // Whoever removes a file, or moves it, has had it before them.
  if (!now) return 'here';
  if (!isFile(now) || !isFile(guest) || (sent && !isFile(sent))) return 'thrown away';
  if (sent && sent.mode !== guest.mode && now.mode !== guest.mode) return 'thrown away';
  if (now.oid === guest.oid || sent?.oid === guest.oid) return 'here';
  return { before: sent, guest, now, isResolved: how === 'marked' };
}
/** The same branch counts whatever became of its commits: they are amended, and rebased. */
async function isLaterThan(
  then: Omit<Applied, 'paths'>,
  { git, head, branch }: Repository,
): Promise<boolean> {
  if (then.head === head || then.head === undefined) return true;
  if (then.branch !== undefined && then.branch === branch) return true;
  if (head === undefined) return false;
  const args = ['merge-base', '--is-ancestor', then.head, head];
  return (await git(args, { okExitCodes: [1, 128] })).exitCode === 0;
}

function isFile(entry: GitEntry | undefined): entry is GitEntry {
  return entry?.mode.startsWith('100') ?? false;
}

/** Whether it went in with conflict markers, and nobody has resolved the conflict yet. */
async function hasMarkers(
  { how }: AppliedPath,
  entry: GitEntry | undefined,
  { repository: { git }, env }: HostView,
): Promise<boolean> {
  if (how !== 'marked' || !isFile(entry)) return false;
  return hasOwnMarkers((await git(['cat-file', 'blob', entry.oid], { env })).stdout.toString('latin1'));
}

/**
 * Looks at the lines of files, and returns what of each is here: all that the guest did, to which what it did last belongs,
 * or what was applied the time before, which a commit here may have alone.
 */
async function stillThere(
  files: ReadonlyMap<RawPath, Reworked>,
  applied: AppliedPaths,
  view: HostView,
): Promise<Map<RawPath, AppliedPath>> {
  const all = [...files].flatMap(([path, file]) => {
    const { previous } = applied.get(path)!;
    return isFile(previous)
      ? [[path, file] as const, [path, { ...file, before: previous }] as const]
      : [[path, file] as const];
  });
  const gone = await pathsGone(all, view);
  const found = new Map(
    [...files.keys()].filter((path) => !gone.has(path)).map((path) => [path, applied.get(path)!]),
  );
  const older = [...gone].flatMap((path) => {
    const { previous: guest } = applied.get(path)!;
    return isFile(guest) ? [[path, { ...files.get(path)!, guest }] as const] : [];
  });
  const goneBefore = await pathsGone(older, view);
  for (const [path, { guest }] of older) {
    const { sent, how } = applied.get(path)!;
    if (!goneBefore.has(path)) found.set(path, { sent, guest, how });
  }
  return found;
}

async function pathsGone(
  files: readonly (readonly [path: RawPath, file: Reworked])[],
  view: HostView,
): Promise<ReadonlySet<RawPath>> {
  const texts = await view.bring([...new Set(files.flatMap(([, file]) => oidsOf(file)))]);
  const isText = ([, file]: (typeof files)[number]): boolean => oidsOf(file).every((oid) => texts.has(oid));
  const known = files.filter(isText);
  const gone = await findThrownAway(
    known.map(([, file]) => file),
    view,
  );
  return new Set(
    [...files.filter((each) => !isText(each)), ...known.filter((_, index) => gone.has(index))].map(
      ([path]) => path,
    ),
  );
}

function oidsOf({ before, guest, now }: Reworked): string[] {
  return [before, guest, now].flatMap((entry) => (entry ? [entry.oid] : []));
}
