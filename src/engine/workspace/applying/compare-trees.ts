import { errorText } from '../../../errors.ts';
import { guestDataMemoryBytes, isOutOfMemory } from '../../../host/memory-limit.ts';
import { splitRaw, type RawPath } from '../host-tree/raw-path.ts';
import type { Repository } from '../host-tree/repository.ts';
import type { GitVariables } from '../host-tree/scratch-objects.ts';

/** How much of a file changes: lines or, of a binary one, bytes on both sides. */
export type ChangeSize =
  | { readonly added: number; readonly removed: number }
  | { readonly oldBytes: number; readonly newBytes: number };

export interface ComparedTrees {
  readonly before: string;
  readonly after: string;
  readonly env: GitVariables;
}

/** Counts what differs between two git trees, path by path. Bytes are counted of large files, too. */
export async function compareTrees(
  repository: Repository,
  trees: ComparedTrees,
): Promise<Map<RawPath, ChangeSize>> {
  const { git } = repository;
  const { env } = trees;
  const listed = await listDifferences(repository, trees);
  const sides = new Map<RawPath, readonly [string, string]>();
  const sizes = new Map<RawPath, ChangeSize>();
  const binary = new Set<RawPath>();
  const fields = splitRaw(listed);
  for (let at = 0; at < fields.length; at++) {
    const field = fields[at]!;
    if (field.startsWith(':')) {
      const [, , one, other] = field.split(' ');
      sides.set(fields[++at]!, [one!, other!]);
      binary.add(fields[at]!);
      continue;
    }
    const [, added, removed, path] = /^(\d+|-)\t(\d+|-)\t([^]*)$/.exec(field)!;
    if (added === '-') continue;
    sizes.set(path!, { added: Number(added), removed: Number(removed) });
    binary.delete(path!);
  }
  if (binary.size === 0) return sizes;
  const oids = [...binary].flatMap((path) => sides.get(path)!);
  const input = Buffer.from(oids.map((oid) => `${oid}\n`).join(''));
  const known = await git(['cat-file', '--batch-check=%(objectsize)'], { env, input });
  // What is missing, on the side where the file is not, has no size.
  const bytes = known.stdout
    .toString('latin1')
    .split('\n')
    .map((line) => (/^\d+$/.test(line) ? Number(line) : 0));
  for (const [index, path] of [...binary].entries())
    sizes.set(path, { oldBytes: bytes[2 * index]!, newBytes: bytes[2 * index + 1]! });
  return sizes;
}

/** Git takes forty times the size of a file that is nothing but ends of lines to count those. */
const mostCountedBytes = '16m';

async function listDifferences({ git }: Repository, { before, after, env }: ComparedTrees): Promise<Buffer> {
  const format = ['-r', '-z', '--no-renames', '--no-ext-diff', '--no-textconv', '--no-abbrev', '--raw'];
  const list = async (...counts: readonly string[]): Promise<Buffer> => {
    const args = ['-c', `core.bigFileThreshold=${mostCountedBytes}`, 'diff-tree', ...format, ...counts];
    return (await git([...args, before, after], { env, maxMemoryBytes: guestDataMemoryBytes })).stdout;
  };
  try {
    return await list('--numstat');
  } catch (error) {
    // Attributes may say that a large file is text all the same.
    if (isOutOfMemory(errorText(error))) return list();
    throw error;
  }
}
