import { isSameEntry, type ChangedPath, type GitEntry } from '../guest-tree/changes-format.ts';
import type { RawPath } from '../host-tree/raw-path.ts';
import type { MergedPath } from './merge-changes.ts';

/** A path of a guest that went into the host's tree. A side is absent where the path does not exist. */
export interface AppliedPath {
  /** As it was sent */
  readonly sent?: GitEntry;
  /** As the guest had it then; never the same as `sent` */
  readonly guest?: GitEntry;
  /** As the guest had it when it was applied the time before; absent where that is as it was sent */
  readonly previous?: GitEntry;
  /** With conflict markers; or not at all, since the host's version was chosen */
  readonly how: 'whole' | 'marked' | 'ours';
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
  /** The host's version was chosen, whatever the guest has */
  readonly isOurs?: boolean;
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
  }: {
    readonly held: AppliedPaths;
    /** All that the guest changed since the tree was sent */
    readonly changes: readonly ChangedPath[];
  },
): AppliedPaths {
  const sent = new Map(changes.map(({ path, before }) => [path, before]));
  const paths = new Map(held);
  for (const { change, merged, isOurs } of outcomes) {
    const { path, after } = change;
    const isConflict = merged.outcome === 'conflict';
    if (isConflict && !merged.isWritable) continue;
    const known = held.get(path);
    // Nothing is new of it.
    if (known && isSameEntry(known.guest, after) && !isOurs) continue;
    const before = sent.has(path) ? sent.get(path) : known?.sent;
    const how = isOurs ? 'ours' : isConflict ? 'marked' : 'whole';
    if (isSameEntry(before, after)) paths.delete(path);
    else paths.set(path, { sent: before, guest: after, previous: known?.guest, how });
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
