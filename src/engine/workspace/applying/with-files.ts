import type { WorkingTree } from '../host-tree/inspect-tree.ts';
import type { RawPath } from '../host-tree/raw-path.ts';
import { statTreeFiles } from '../host-tree/tree-files.ts';
import { isInside } from './since-applied.ts';

/** A working tree with files at these paths as well, whether git tracks them or ignores them. */
export async function withFiles(
  tree: WorkingTree,
  paths: Iterable<RawPath>,
  signal: AbortSignal,
): Promise<WorkingTree> {
  const known = new Set(tree.files.map(({ path }) => path));
  const submodules = tree.submodules.map(({ path }) => path);
  const wanted = [...paths].filter((path) => !known.has(path) && !isInside(path, submodules));
  if (wanted.length === 0) return tree;
  const { files } = await statTreeFiles(tree.repository.topLevel, wanted, signal);
  return {
    ...tree,
    files: [...tree.files, ...files],
    unsure: new Set([...tree.unsure, ...files.map(({ path }) => path)]),
  };
}
