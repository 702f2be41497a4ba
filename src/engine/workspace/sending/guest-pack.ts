import { mkdtemp, readdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { namingDamage } from '../host-tree/damage.ts';
import { promisorRemote } from '../host-tree/git-config.ts';
import type { MadeBlob } from './made-blobs.ts';
import type { WorkingTree } from '../host-tree/inspect-tree.ts';
import type { GitVariables } from '../host-tree/scratch-objects.ts';

interface PackInput {
  readonly env: GitVariables;
  readonly wanted: readonly (string | undefined)[];
  /** What stays out of it */
  readonly made: readonly MadeBlob[];
}

/**
 * Nothing is packed again that is packed, and no likeness is searched for among what is not: the way to the guest is
 * short, and the search would take longer than what it saves.
 */
const packCommand = ['pack-objects', '--delta-base-offset', '--window=0', '-q'];

/** Packs what is reachable from the wanted objects and the index; returns the files made. */
export async function writePack(
  tree: WorkingTree,
  scratch: string,
  { env, wanted, made }: PackInput,
): Promise<string[]> {
  const lines = [...wanted.filter((line) => line !== undefined), ...made.map(({ oid }) => `^${oid}`)];
  const index = { GIT_INDEX_FILE: tree.indexCopy ?? join(scratch, 'no-index') };
  return runPack(tree, scratch, { env: { ...env, ...index }, lines, args: ['--revs', '--indexed-objects'] });
}

/** Packs the objects listed, each perhaps followed by a path; returns the files made. */
export async function writeListedPack(
  tree: WorkingTree,
  scratch: string,
  { env, lines }: { readonly env: GitVariables; readonly lines: readonly string[] },
): Promise<string[]> {
  return runPack(tree, scratch, { env, lines, args: [] });
}

async function runPack(
  { repository }: WorkingTree,
  scratch: string,
  {
    env,
    lines,
    args,
  }: { readonly env: GitVariables; readonly lines: readonly string[]; readonly args: readonly string[] },
): Promise<string[]> {
  const isPartial = promisorRemote(repository.config) !== undefined;
  const directory = await mkdtemp(join(scratch, 'pack-'));
  // Bytes: a path may be among them.
  const input = Buffer.from(lines.map((line) => `${line}\n`).join(''), 'latin1');
  const missing = isPartial ? ['--missing=allow-promisor'] : [];
  await namingDamage(repository, () =>
    repository.git([...packCommand, ...args, ...missing, join(directory, 'pack')], { env, input }),
  );
  const names = (await readdir(directory)).filter((name) => /\.(?:pack|idx)$/.test(name));
  if (isPartial) {
    // Tells the guest's git that whatever this pack's objects name and lack is with the remote.
    const [pack] = names.map((name) => name.replace(/\.[a-z]+$/, '.promisor'));
    await writeFile(join(directory, pack!), '');
    names.push(pack!);
  }
  return names.map((name) => join(directory, name));
}
