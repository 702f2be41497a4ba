import type { GitEntry } from '../guest-tree/changes-format.ts';
import { submoduleMode } from '../host-tree/index-entries.ts';
import { displayPath, type RawPath } from '../host-tree/raw-path.ts';
import { directoriesOf } from '../sending/plan-update.ts';
import type { MergedPath, MergeInput } from './merge-changes.ts';

/** A path cannot be a file and a directory at once: such changes are conflicts, whoever came first. */
export function withoutCollisions(
  merged: readonly MergedPath[],
  now: ReadonlyMap<RawPath, GitEntry>,
  { vmName, others }: Pick<MergeInput, 'vmName' | 'others'>,
): MergedPath[] {
  const after = new Set([...now.keys(), ...others]);
  for (const { path, result, outcome } of merged) {
    if (result) after.add(path);
    else if (outcome === 'applied') after.delete(path);
  }
  const directories = directoriesOf(after);
  return merged.map((each) => {
    if (!each.result || each.outcome === 'present') return each;
    const { path } = each;
    const file = parents(path).find((parent) => after.has(parent));
    if (file === undefined && !directories.has(path)) return each;
    const isSubmodule = file !== undefined && now.get(file)?.mode === submoduleMode;
    const name = displayPath(path);
    const way = file === undefined ? 'directory' : isSubmodule ? 'submodule' : 'file';
    const where = file === undefined ? '' : ` "${displayPath(file)}"`;
    return {
      path,
      outcome: 'conflict',
      conflict: isSubmodule ? 'submodule' : 'file/directory',
      reason: `${way}${where} in the way of ${name} from VM "${vmName}"`,
      isWritable: false,
    };
  });
}

/** Every directory above a path, below the top. */
export function parents(path: RawPath): RawPath[] {
  const parts = path.split('/');
  return parts.slice(1).map((_, index) => parts.slice(0, index + 1).join('/'));
}
