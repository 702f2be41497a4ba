import { isSameEntry, type ChangedPath, type GitEntry } from '../guest-tree/changes-format.ts';
import type { RawPath } from '../host-tree/raw-path.ts';
import type { Repository } from '../host-tree/repository.ts';
import type { GitVariables } from '../host-tree/scratch-objects.ts';
import type { MergedPath } from './merge-changes.ts';
import { hasOwnMarkers } from './merge-content.ts';

/** A path of a guest that went into the host's tree. A side is absent where the path does not exist. */
export interface AppliedPath {
  /** As it was sent */
  readonly sent?: GitEntry;
  /** As the guest had it then; never the same as `sent` */
  readonly guest?: GitEntry;
  /** It went in with conflict markers */
  readonly isMarked: boolean;
}

/** What of a guest went into the host's tree since that was sent; see docs/decisions/applied-changes.md. */
export interface Applied {
  /** Of the host, when it was applied */
  readonly head?: string;
  readonly branch?: string;
  readonly paths: ReadonlyMap<RawPath, AppliedPath>;
}

export type AppliedPaths = Applied['paths'];

/**
 * Leaves those that the host's tree still has, as far as can be told. A file that is as it was sent has nothing of the
 * guest any more, and what was applied on one branch is not on another that parted before; unless it is there to the byte.
 */
export async function heldHere(
  { paths, ...then }: Applied,
  repository: Repository,
  now: ReadonlyMap<RawPath, GitEntry>,
): Promise<AppliedPaths> {
  if (paths.size === 0) return paths;
  const isSameLine = await isLaterThan(then, repository);
  return new Map(
    [...paths].filter(([path, { sent, guest }]) => {
      const entry = now.get(path);
      return !isSameEntry(entry, sent) && (isSameLine || isSameEntry(entry, guest));
    }),
  );
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

/**
 * What a guest changed since its changes were applied, of what it changed since the tree was sent: those that went in
 * are what later ones are compared with. What it has taken back since is a change, too, unless nobody `isKnown` to say so.
 */
export function sinceApplied(
  changes: readonly ChangedPath[],
  applied: AppliedPaths,
  isKnown: (path: RawPath) => boolean,
): ChangedPath[] {
  const listed = new Set(changes.map(({ path }) => path));
  const later = changes.flatMap((change) => {
    const known = applied.get(change.path);
    if (!known) return [change];
    return isSameEntry(known.guest, change.after) ? [] : [{ ...change, before: known.guest }];
  });
  const undone = [...applied].flatMap(([path, { sent, guest }]) =>
    listed.has(path) || !isKnown(path) ? [] : [{ path, before: guest, after: sent }],
  );
  return [...later, ...undone].sort(byPath);
}

export interface Outcome {
  readonly change: ChangedPath;
  readonly merged: Pick<MergedPath, 'outcome' | 'isWritable'>;
}

/**
 * What is applied when all that can be is written. A conflict that cannot be shown in the tree stays one: nothing of it
 * went in.
 */
export function appliedNow(
  outcomes: readonly Outcome[],
  {
    held,
    changes,
    marked,
  }: {
    readonly held: AppliedPaths;
    /** All that the guest changed since the tree was sent */
    readonly changes: readonly ChangedPath[];
    /** Those in which there are conflict markers already */
    readonly marked: ReadonlySet<RawPath>;
  },
): AppliedPaths {
  const sent = new Map(changes.map(({ path, before }) => [path, before]));
  const paths = new Map([...held].map(([path, each]) => [path, { ...each, isMarked: marked.has(path) }]));
  for (const { change, merged } of outcomes) {
    const { path, after } = change;
    const isConflict = merged.outcome === 'conflict';
    if (isConflict && !merged.isWritable) continue;
    const before = sent.has(path) ? sent.get(path) : held.get(path)?.sent;
    const isMarked = isConflict || marked.has(path);
    if (isSameEntry(before, after)) paths.delete(path);
    else paths.set(path, { sent: before, guest: after, isMarked });
  }
  return paths;
}

/** In the order in which git has them. */
export function byPath({ path: one }: ChangedPath, { path: other }: ChangedPath): number {
  return one < other ? -1 : Number(one > other);
}

/**
 * Files that were sent, as they are to be compared with: those of which something was applied as the guest had them, or
 * as they are `now`, of which more is known, where that is the same.
 */
export function withApplied<Entry extends GitEntry>(
  sent: ReadonlyMap<RawPath, Entry>,
  applied: AppliedPaths,
  now?: ReadonlyMap<RawPath, Entry>,
): Map<RawPath, Entry | GitEntry> {
  const files = new Map<RawPath, Entry | GitEntry>(sent);
  for (const [path, { guest }] of applied) {
    const entry = now?.get(path);
    if (guest) files.set(path, entry && isSameEntry(entry, guest) ? entry : guest);
    else files.delete(path);
  }
  return files;
}

/** Whether a path is in one of these repositories, which git lists as one thing each. */
export function isInside(path: RawPath, repositories: readonly RawPath[]): boolean {
  return repositories.some((each) => path === each || path.startsWith(`${each}/`));
}

/** What the host's tree has of what was applied; of a file with conflict markers nobody knows yet what it will have. */
export async function findTaken(
  repository: Repository,
  {
    applied,
    files: now,
    env,
  }: {
    readonly applied?: Applied;
    readonly files: ReadonlyMap<RawPath, GitEntry>;
    readonly env: GitVariables;
  },
): Promise<{ readonly held: AppliedPaths; readonly marked: ReadonlySet<RawPath> }> {
  if (!applied) return { held: new Map(), marked: new Set() };
  const held = await heldHere(applied, repository, now);
  const marked = await stillMarked(held, { repository, env, now });
  return { held: new Map([...held].filter(([path]) => !marked.has(path))), marked };
}

/** Of those that went in with conflict markers: where nobody has resolved the conflict yet. */
export async function stillMarked(
  applied: AppliedPaths,
  {
    repository: { git },
    env,
    now,
  }: {
    readonly repository: Repository;
    readonly env: GitVariables;
    readonly now: ReadonlyMap<RawPath, GitEntry>;
  },
): Promise<ReadonlySet<RawPath>> {
  const marked = new Set<RawPath>();
  for (const [path, { isMarked }] of applied) {
    const entry = now.get(path);
    if (!isMarked || !entry?.mode.startsWith('100')) continue;
    const content = await git(['cat-file', 'blob', entry.oid], { env });
    if (hasOwnMarkers(content.stdout.toString('latin1'))) marked.add(path);
  }
  return marked;
}
