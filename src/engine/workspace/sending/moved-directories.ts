import type { ChangedPath } from '../guest-tree/changes-format.ts';
import type { RawPath } from '../host-tree/raw-path.ts';
import { directoriesOf, parentsOf } from './plan-update.ts';

export interface MovedDirectory {
  readonly from: RawPath;
  readonly to: RawPath;
}

/**
 * Of new files, those in a directory that the other side has moved: whoever did so meant them, too, and git asks where
 * they belong. A directory counts as moved when nothing of it is left, and files of it are elsewhere by the same names.
 */
export function findMisplaced(
  added: readonly RawPath[],
  before: { keys(): Iterable<RawPath> },
  other: readonly ChangedPath[],
): Map<RawPath, MovedDirectory> {
  const gone = other.flatMap(({ path, before, after }) => (before && !after ? [{ path, ...before }] : []));
  const made = other.flatMap(({ path, before, after }) => (after && !before ? [{ path, ...after }] : []));
  if (added.length === 0 || gone.length === 0 || made.length === 0) return new Map();
  const isGone = new Set(gone.map(({ path }) => path));
  const stays = made.map(({ path }) => path);
  for (const path of before.keys()) if (!isGone.has(path)) stays.push(path);
  const left = directoriesOf(stays);
  const byContent = Map.groupBy(gone, contentKey);
  const moved = new Map<RawPath, RawPath>();
  for (const file of made) {
    const same = byContent.get(contentKey(file)) ?? [];
    for (const { path } of same.slice(0, mostAlike)) {
      for (const [from, to] of directoriesAbove(path, file.path)) if (!left.has(from)) moved.set(from, to);
    }
  }
  const misplaced = new Map<RawPath, MovedDirectory>();
  for (const path of added) {
    const from = parentsOf(path).findLast((parent) => moved.has(parent));
    if (from !== undefined) misplaced.set(path, { from, to: moved.get(from)! });
  }
  return misplaced;
}

/** Of files that are alike in name and content, such as empty ones, no more are looked at. */
const mostAlike = 20;

function contentKey({ path, oid }: { readonly path: RawPath; readonly oid: string }): string {
  return `${oid} ${path.slice(path.lastIndexOf('/') + 1)}`;
}

/** Pairs of directories of two files, below which the files have the same path; the nearest first. */
function directoriesAbove(one: RawPath, other: RawPath): [RawPath, RawPath][] {
  const pairs: [RawPath, RawPath][] = [];
  const [first, second] = [one.split('/'), other.split('/')];
  while (first.length > 1 && second.length > 1 && first.pop() === second.pop()) {
    pairs.push([first.join('/'), second.join('/')]);
  }
  return pairs;
}
