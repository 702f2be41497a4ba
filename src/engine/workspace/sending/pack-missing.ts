import { join } from 'node:path';
import { writeListedPack, writePack } from './guest-pack.ts';
import type { WorkingTree } from '../host-tree/inspect-tree.ts';
import type { Manifest } from './manifest.ts';
import type { History } from './plan-history.ts';
import { tipsOf } from './shipment.ts';
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
  const [roots, edges] = await Promise.all([rootsOf(git, history.missing), rootsOf(git, history.boundary)]);
  const wanted = [...roots, baseTree, ...edges.map((root) => `^${root}`)];
  const listed = await git(
    ['rev-list', '--objects', '--missing=allow-any', ...(withIndex ? ['--indexed-objects'] : []), '--stdin'],
    {
      env: { ...env, GIT_INDEX_FILE: tree.indexCopy ?? join(scratch, 'no-index') },
      input: Buffer.from(wanted.map((line) => `${line}\n`).join('')),
    },
  );
  const there = new Set([...manifest.files.values()].map(({ oid }) => oid));
  const lines = listed.stdout
    .toString('latin1')
    .split('\n')
    .filter((line) => line !== '' && !there.has(line.split(' ', 1)[0]!));
  if (lines.length === 0 && history.missing.length === 0) return [];
  return writeListedPack(tree, scratch, { env, lines: [...history.missing, ...lines] });
}

/** Trees of commits. */
async function rootsOf(git: WorkingTree['repository']['git'], commits: readonly string[]): Promise<string[]> {
  if (commits.length === 0) return [];
  const input = Buffer.from(commits.map((commit) => `${commit}\n`).join(''));
  const listed = await git(['rev-list', '--no-walk=unsorted', '--format=tree %T', '--stdin'], { input });
  return listed.stdout
    .toString('latin1')
    .split('\n')
    .flatMap((line) => /^tree (.+)$/.exec(line)?.[1] ?? []);
}
