import type { AskedPaths } from '../guest-tree/ask-guest.ts';
import type { RawPath } from '../host-tree/raw-path.ts';
import type { Manifest } from './manifest.ts';
import { directoriesOf, parentsOf } from './plan-update.ts';

/** Paths that a guest was sent no file to, and of which it has said nothing; directories on the way there, too. */
export function newPaths(
  before: Manifest['files'],
  after: Manifest['files'],
  listed: ReadonlySet<RawPath>,
): AskedPaths {
  const added: RawPath[] = [];
  for (const path of after.keys()) if (!before.has(path)) added.push(path);
  if (added.length === 0) return { files: [], directories: [] };
  const known = directoriesOf(before.keys());
  // Below what was sent as a file or symlink there is nothing, unless the guest has said so.
  const isUnknown = (path: RawPath): boolean =>
    !listed.has(path) && !before.has(path) && !parentsOf(path).some((parent) => before.has(parent));
  const directories = directoriesOf(added);
  return {
    files: added.filter(isUnknown),
    directories: [...directories].filter((path) => !known.has(path) && isUnknown(path)),
  };
}
