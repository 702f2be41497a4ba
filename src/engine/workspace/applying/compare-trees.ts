import { splitRaw, type RawPath } from '../host-tree/raw-path.ts';
import type { Repository } from '../host-tree/repository.ts';
import type { GitVariables } from '../host-tree/scratch-objects.ts';

/** How much of a file changes: lines or, of a binary one, bytes on both sides. */
export type ChangeSize =
  | { readonly added: number; readonly removed: number }
  | { readonly oldBytes: number; readonly newBytes: number };

/** Counts what differs between two git trees, path by path. */
export async function compareTrees(
  { git }: Repository,
  { before, after, env }: { readonly before: string; readonly after: string; readonly env: GitVariables },
): Promise<Map<RawPath, ChangeSize>> {
  const format = ['-r', '-z', '--no-renames', '--no-ext-diff', '--no-textconv', '--no-abbrev'];
  const listed = await git(['diff-tree', ...format, '--raw', '--numstat', before, after], { env });
  const sides = new Map<RawPath, readonly [string, string]>();
  const sizes = new Map<RawPath, ChangeSize>();
  const binary: RawPath[] = [];
  const fields = splitRaw(listed.stdout);
  for (let at = 0; at < fields.length; at++) {
    const field = fields[at]!;
    if (field.startsWith(':')) {
      const [, , one, other] = field.split(' ');
      sides.set(fields[++at]!, [one!, other!]);
      continue;
    }
    const [, added, removed, path] = /^(\d+|-)\t(\d+|-)\t([^]*)$/.exec(field)!;
    if (added === '-') binary.push(path!);
    else sizes.set(path!, { added: Number(added), removed: Number(removed) });
  }
  if (binary.length === 0) return sizes;
  const oids = binary.flatMap((path) => sides.get(path)!);
  const input = Buffer.from(oids.map((oid) => `${oid}\n`).join(''));
  const known = await git(['cat-file', '--batch-check=%(objectsize)'], { env, input });
  // What is missing, on the side where the file is not, has no size.
  const bytes = known.stdout
    .toString('latin1')
    .split('\n')
    .map((line) => (/^\d+$/.test(line) ? Number(line) : 0));
  for (const [index, path] of binary.entries())
    sizes.set(path, { oldBytes: bytes[2 * index]!, newBytes: bytes[2 * index + 1]! });
  return sizes;
}
