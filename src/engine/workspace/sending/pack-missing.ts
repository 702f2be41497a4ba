import { join } from 'node:path';
import { writeListedPack, writePack } from './guest-pack.ts';
import type { WorkingTree } from '../host-tree/inspect-tree.ts';
import type { Manifest } from './manifest.ts';
import type { History } from './plan-history.ts';
import { tipsOf } from '../host-tree/history.ts';
import type { Snapshot } from '../host-tree/snapshot.ts';

export interface MissingInput extends Pick<Snapshot, 'env' | 'baseTree'> {
  readonly manifest: Manifest;
  readonly history: History;
  readonly withIndex: boolean;
}

/** Packs the objects that the guest lacks; returns the files made, none when it lacks none. */
export async function packMissing(
  tree: WorkingTree,
  scratch: string,
  { env, baseTree, manifest, history, withIndex }: MissingInput,
): Promise<string[]> {
  const { git } = tree.repository;
  if (history.missing === undefined) {
    const wanted = [...history.ends.map((end) => `--shallow ${end}`), ...tipsOf(tree), baseTree];
    return writePack(tree, scratch, { env, wanted });
  }
  const roots = history.missing.map((commit) => `${commit}^{tree}`);
  const edges = history.boundary.map((commit) => `^${commit}^{tree}`);
  // The guest keeps the trees of what was sent last, and those of changes without a commit are in no edge.
  const base = baseTree === manifest.baseTree ? `^${baseTree}` : baseTree;
  const wanted = [...roots, base, ...edges];
  const listed = await git(
    ['rev-list', '--objects', '--missing=allow-any', ...(withIndex ? ['--indexed-objects'] : []), '--stdin'],
    {
      env: { ...env, GIT_INDEX_FILE: tree.indexCopy ?? join(scratch, 'no-index') },
      input: Buffer.from(wanted.map((line) => `${line}\n`).join('')),
    },
  );
  const there = new Set<string>();
  for (const { oid } of manifest.files.values()) there.add(oid);
  const lines = listed.stdout
    .toString('latin1')
    .split('\n')
    .filter((line) => line !== '' && !there.has(line.split(' ', 1)[0]!));
  if (lines.length === 0 && history.missing.length === 0) return [];
  return writeListedPack(tree, scratch, { env, lines: [...history.missing, ...lines] });
}
