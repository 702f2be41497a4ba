import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { GitEntry } from '../guest-tree/changes-format.ts';
import type { MergeInput } from './merge-changes.ts';
import type { MergeDriver } from './merge-drivers.ts';

/** Three versions of a file; without `base` both sides made it. */
export interface Versions {
  readonly base?: GitEntry;
  readonly now: GitEntry;
  readonly after: GitEntry;
}

/** Merges three versions of a file. Undefined when they cannot be merged: one of them is binary. */
export async function mergeContent(
  versions: Versions,
  input: MergeInput,
  driver: MergeDriver,
): Promise<{ readonly result: GitEntry; readonly isClean: boolean } | undefined> {
  const { base, now, after } = versions;
  const mode = now.mode === base?.mode ? after.mode : now.mode;
  const settled = settledContent(versions);
  if (settled !== undefined) return { result: { mode, oid: settled }, isClean: true };
  const text = await mergeText(versions, input, driver);
  return text && { result: { mode, oid: text.oid }, isClean: text.isClean };
}

/** The content when only one side changed it; the other changed the mode, or the name. */
function settledContent({ base, now, after }: Versions): string | undefined {
  if (now.oid === after.oid || after.oid === base?.oid) return now.oid;
  return now.oid === base?.oid ? after.oid : undefined;
}

/** Exit codes of `git merge-file`: the number of conflicts, or 255 for what it cannot merge. */
const conflictCodes = Array.from({ length: 127 }, (_, index) => index + 1);
const unmergeable = 255;

async function mergeText(
  { base, now, after }: Versions,
  { repository: { git }, env, scratch, vmName }: MergeInput,
  driver: MergeDriver,
): Promise<{ readonly oid: string; readonly isClean: boolean } | undefined> {
  if (driver === 'binary') return undefined;
  const sides = [
    { name: 'this tree', entry: now },
    { name: 'as it was sent', entry: base },
    { name: `VM ${vmName}`, entry: after },
  ];
  const files = await Promise.all(
    sides.map(async ({ entry }, index) => {
      const file = join(scratch, `merge-${index}`);
      const content = entry ? (await git(['cat-file', 'blob', entry.oid], { env })).stdout : Buffer.alloc(0);
      await writeFile(file, content, { mode: 0o600 });
      return file;
    }),
  );
  const merged = await git(
    [
      'merge-file',
      '-p',
      '-q',
      ...(driver === 'union' ? ['--union'] : []),
      ...sides.flatMap(({ name }) => ['-L', name]),
      ...files,
    ],
    { okExitCodes: [...conflictCodes, unmergeable] },
  );
  if (merged.exitCode === unmergeable) return undefined;
  const written = await git(['hash-object', '-w', '--stdin'], { env, input: merged.stdout });
  return { oid: written.stdout.toString('latin1').trim(), isClean: merged.exitCode === 0 };
}
