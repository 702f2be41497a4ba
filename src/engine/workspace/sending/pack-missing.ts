import { join } from 'node:path';
import { writeListedPack, writePack } from './guest-pack.ts';
import type { WorkingTree } from '../host-tree/inspect-tree.ts';
import { findMadeBlobs, type CanMakeBlobs, type MadeBlob } from './made-blobs.ts';
import type { Manifest } from './manifest.ts';
import type { History } from './plan-history.ts';
import { tipsOf } from '../host-tree/history.ts';
import type { RawPath } from '../host-tree/raw-path.ts';
import type { ListedFile } from '../host-tree/sent-files.ts';
import { topPlace } from './ship-submodules.ts';
import type { Snapshot } from '../host-tree/snapshot.ts';

export interface MissingInput extends Pick<Snapshot, 'env' | 'baseTree' | 'listed'> {
  readonly manifest: Manifest;
  readonly history: History;
  readonly withIndex: boolean;
  /** Of the guest; absent: no */
  readonly canMakeBlobs?: CanMakeBlobs;
  /** Files that travel; absent: all that are not as before */
  readonly written?: ReadonlySet<RawPath>;
}

export interface Missing {
  /** Files that hold them; none when the guest lacks none */
  readonly pack: readonly string[];
  /** Those that the guest makes of files */
  readonly made: readonly MadeBlob[];
}

/** Packs the objects that the guest lacks. */
export async function packMissing(
  tree: WorkingTree,
  scratch: string,
  { env, baseTree, listed: files, manifest, history, withIndex, canMakeBlobs, written }: MissingInput,
): Promise<Missing> {
  const { git } = tree.repository;
  const there = new Set<string>();
  for (const { oid } of manifest.files.values()) there.add(oid);
  const findMade = (lacks: (oid: string) => boolean): Promise<MadeBlob[]> => {
    const isWanted = ({ path, oid }: ListedFile): boolean =>
      lacks(oid) && !there.has(oid) && written?.has(path) !== false;
    return findMadeBlobs(tree, { listed: files, place: topPlace, canMakeBlobs, isWanted });
  };
  if (history.missing === undefined) {
    const made = await findMade(() => true);
    const wanted = [...history.ends.map((end) => `--shallow ${end}`), ...tipsOf(tree), baseTree];
    return { pack: await writePack(tree, scratch, { env, wanted, made }), made };
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
  const lines = listed.stdout
    .toString('latin1')
    .split('\n')
    .filter((line) => line !== '' && !there.has(oidOf(line)));
  const lacking = new Set(lines.map(oidOf));
  const made = await findMade((oid) => lacking.has(oid));
  const isMade = new Set(made.map(({ oid }) => oid));
  const packed = [...history.missing, ...lines.filter((line) => !isMade.has(oidOf(line)))];
  return {
    pack: packed.length === 0 ? [] : await writeListedPack(tree, scratch, { env, lines: packed }),
    made,
  };
}

function oidOf(line: string): string {
  return line.split(' ', 1)[0]!;
}
