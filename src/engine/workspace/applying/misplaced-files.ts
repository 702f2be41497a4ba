import type { ChangedPath, GitEntry } from '../guest-tree/changes-format.ts';
import type { RawPath } from '../host-tree/raw-path.ts';
import type { Repository } from '../host-tree/repository.ts';
import { findMisplaced } from '../sending/moved-directories.ts';

export interface MovedHere {
  readonly sent: ReadonlyMap<RawPath, GitEntry>;
  /** The host's tree */
  readonly now: ReadonlyMap<RawPath, GitEntry>;
  /** The guest's changes, by path */
  readonly changes: ReadonlyMap<RawPath, ChangedPath>;
}

/**
 * Finds new files of the guest in directories that were moved here, and where they would be if they had been moved
 * along; none when git here is set not to ask about those.
 */
export function misplacedFiles(
  made: readonly RawPath[],
  { sent, now, changes }: MovedHere,
  { config }: Repository,
): Map<RawPath, RawPath> {
  const wanted = config.get('merge.directoryrenames')?.at(-1) ?? 'conflict';
  if (wanted !== 'conflict' || made.length === 0) return new Map();
  const here = [
    ...[...sent].flatMap(([path, before]) => (now.has(path) ? [] : [{ path, before }])),
    ...[...now].flatMap(([path, after]) => (sent.has(path) ? [] : [{ path, after }])),
  ];
  // One that the guest has moved, too, is not where it was for either.
  const stays = [...sent.keys()].filter((path) => changes.get(path)?.after ?? !changes.has(path));
  const found = [...findMisplaced(made, sent, here)].filter(([, { from }]) =>
    stays.some((path) => path.startsWith(`${from}/`)),
  );
  return new Map(found.map(([path, { from, to }]) => [path, `${to}${path.slice(from.length)}`]));
}
