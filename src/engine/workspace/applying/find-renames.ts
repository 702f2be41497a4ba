import { join } from 'node:path';
import { errorText } from '../../../errors.ts';
import { guestDataMemoryBytes, isOutOfMemory } from '../../../host/memory-limit.ts';
import type { GitEntry } from '../guest-tree/changes-format.ts';
import { splitRaw, type RawPath } from '../host-tree/raw-path.ts';
import type { Repository } from '../host-tree/repository.ts';
import type { GitVariables } from '../host-tree/scratch-objects.ts';

/** Where files went: from the path that is gone to the new one. */
export type Renames = ReadonlyMap<RawPath, RawPath>;

/** More files than these are not compared with each other, only those that are the same to the byte; git's own default. */
const mostCompared = 1000;

/** Lets git find out which of the files that are gone are those that are new, by content, as for a merge. */
export async function findRenames(
  { gone, added }: Readonly<Record<'gone' | 'added', ReadonlyMap<RawPath, GitEntry>>>,
  {
    repository: { git },
    env,
    scratch,
  }: { readonly repository: Repository; readonly env: GitVariables; readonly scratch: string },
): Promise<Renames> {
  if (gone.size === 0 || added.size === 0) return new Map();
  const treeOf = async (entries: ReadonlyMap<RawPath, GitEntry>): Promise<string> => {
    const own = { ...env, GIT_INDEX_FILE: join(scratch, 'renames-index') };
    await git(['read-tree', '--empty'], { env: own });
    const lines = [...entries].map(([path, { mode, oid }]) => `${mode} ${oid} 0\t${path}\0`);
    const input = Buffer.from(lines.join(''), 'latin1');
    await git(['update-index', '-z', '--index-info'], { env: own, input });
    return (await git(['write-tree', '--missing-ok'], { env: own })).stdout.toString('latin1').trim();
  };
  const trees = [await treeOf(gone), await treeOf(added)];
  const format = ['-r', '-z', '--raw', `-l${mostCompared}`, '--no-rename-empty', '--no-abbrev'];
  const compare = async (how: string): Promise<RawPath[]> => {
    const options = { env, maxMemoryBytes: guestDataMemoryBytes };
    return splitRaw((await git(['diff-tree', ...format, how, ...trees], options)).stdout);
  };
  const fields = await compare('-M').catch((error: unknown) => {
    // The same to the byte are known by name alone.
    if (isOutOfMemory(errorText(error))) return compare('-M100%');
    throw error;
  });
  const renames = new Map<RawPath, RawPath>();
  for (let at = 0; at < fields.length; at += 2) {
    if (!/ R\d+$/.test(fields[at]!)) continue;
    renames.set(fields[at + 1]!, fields[at + 2]!);
    at++;
  }
  return renames;
}
