import { lstatSync, readlinkSync, realpathSync, statSync, type Stats } from 'node:fs';
import { basename, dirname, join, resolve } from 'node:path';
import { cannotUse } from '../../engine/copy/cannot-use.ts';
import { BangerError, errnoOf } from '../../errors.ts';
import type { CopyPlace } from './copy-place.ts';
import type { CopyEnd, PathKind } from './plan-copy.ts';

type LocalPlace = Extract<CopyPlace, { kind: 'local' }>;

/** What a local source is: a symlink counts as what it leads to when asked, and when it ends in a slash. */
export function localSource(place: LocalPlace, follow: boolean): CopyEnd {
  const found = lookAt(place.path, follow || place.ending !== 'plain');
  return { ...place, kind: kindOf(found) };
}

const maxLinks = 40;

/** What a local destination is, with symlinks at its end followed: also to where there is nothing yet. */
export function localDestination(place: LocalPlace): CopyEnd {
  let { path } = place;
  for (let links = 0; lookAt(path, false)?.isSymbolicLink(); links++) {
    if (links === maxLinks)
      throw new BangerError('invalid_argument', `"${place.typed}" is a symlink that leads in circles`);
    path = resolve(dirname(path), readlinkSync(path));
  }
  const found = lookAt(path, false);
  if (found) return { ...place, path, kind: kindOf(found) };
  const parent = lookAt(dirname(path), true);
  if (!parent?.isDirectory()) return { ...place, path, kind: 'no-parent' };
  return { ...place, path: join(realpathSync(dirname(path)), basename(path)), kind: 'missing' };
}

function lookAt(path: string, follow: boolean): Stats | undefined {
  try {
    return follow ? statSync(path) : lstatSync(path);
  } catch (error) {
    if (['ENOENT', 'ENOTDIR', 'ELOOP'].includes(errnoOf(error) ?? '')) return undefined;
    throw cannotUse(path, error);
  }
}

function kindOf(stats: Stats | undefined): PathKind {
  if (!stats) return 'missing';
  if (stats.isDirectory()) return 'directory';
  if (stats.isFile()) return 'file';
  return stats.isSymbolicLink() ? 'symlink' : 'other';
}
