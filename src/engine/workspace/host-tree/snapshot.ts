import { join } from 'node:path';
import type { WorkingTree } from './inspect-tree.ts';
import { fillIndex, scratchObjects, writeTree, type GitVariables } from './scratch-objects.ts';
import { listFilled, type ListedFile } from './sent-files.ts';

/** The files of a working tree as git has them, dirty content included. */
export interface Snapshot {
  /** Git tree */
  readonly baseTree: string;
  readonly listed: readonly ListedFile[];
  /** For git that makes objects beside the repository, and reads the new ones */
  readonly env: GitVariables;
  /** The same with an index that holds the tree */
  readonly baseEnv: GitVariables;
}

/** Makes git's tree of a working tree in the scratch directory. */
export async function takeSnapshot(tree: WorkingTree, scratch: string): Promise<Snapshot> {
  const env = await scratchObjects(tree.repository, scratch);
  const baseEnv = { ...env, GIT_INDEX_FILE: join(scratch, 'base-index') };
  const filled = await fillIndex(tree, baseEnv);
  const [baseTree, listed] = await Promise.all([
    writeTree(tree.repository, baseEnv),
    listFilled(tree, filled, baseEnv),
  ]);
  return { baseTree, listed, env, baseEnv };
}
