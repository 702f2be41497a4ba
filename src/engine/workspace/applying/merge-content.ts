import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { errorText } from '../../../errors.ts';
import { guestDataMemoryBytes, isOutOfMemory } from '../../../host/memory-limit.ts';
import { blobSizes } from '../host-tree/blob-sizes.ts';
import type { GitEntry } from '../guest-tree/changes-format.ts';
import type { MergeInput } from './merge-changes.ts';
import type { MergeDriver } from './merge-drivers.ts';

/** Three versions of a file; without `base` both sides made it. */
export interface Versions {
  readonly base?: GitEntry;
  readonly now: GitEntry;
  readonly after: GitEntry;
}

/** Merges three versions of a file. Says why they cannot be merged, as when one of them is binary. */
export async function mergeContent(
  versions: Versions,
  input: MergeInput,
  driver: MergeDriver,
): Promise<{ readonly result: GitEntry; readonly isClean: boolean } | Unmergeable> {
  const { base, now, after } = versions;
  const mode = now.mode === base?.mode ? after.mode : now.mode;
  const settled = settledContent(versions);
  if (settled !== undefined) return { result: { mode, oid: settled }, isClean: true };
  const text = await mergeText(versions, input, driver);
  return typeof text === 'string' ? text : { result: { mode, oid: text.oid }, isClean: text.isClean };
}

/** The content when only one side changed it; the other changed the mode, or the name. */
function settledContent({ base, now, after }: Versions): string | undefined {
  if (now.oid === after.oid || after.oid === base?.oid) return now.oid;
  return now.oid === base?.oid ? after.oid : undefined;
}

/** `marked`: the host's version has conflict markers already, and more of them in between would help nobody. */
export type Unmergeable = 'binary' | 'too large' | 'marked';

/** What markers call the host's version. */
const hereLabel = 'this tree';

/** All versions of a file are in memory, and what git makes of their lines is many times that. */
export const mostMergedBytes = 32 * 1024 * 1024;

/** Exit codes of `git merge-file`: the number of conflicts, or 255 for what it cannot merge. */
const conflictCodes = Array.from({ length: 127 }, (_, index) => index + 1);
const unmergeable = 255;

async function mergeText(
  { base, now, after }: Versions,
  { repository: { git }, env, scratch, vmName }: MergeInput,
  driver: MergeDriver,
): Promise<{ readonly oid: string; readonly isClean: boolean } | Unmergeable> {
  if (driver === 'binary') return 'binary';
  const oids = [base, now, after].flatMap((entry) => (entry ? [entry.oid] : []));
  const sizes = await blobSizes({ git }, oids, env);
  if (oids.some((oid) => (sizes.get(oid) ?? 0) > mostMergedBytes)) return 'too large';
  const sides = [
    { name: hereLabel, entry: now },
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
    { okExitCodes: [...conflictCodes, unmergeable], maxMemoryBytes: guestDataMemoryBytes },
  ).catch((error: unknown) => {
    if (isOutOfMemory(errorText(error))) return undefined;
    throw error;
  });
  if (!merged) return 'too large';
  if (merged.exitCode === unmergeable) return 'binary';
  const isClean = merged.exitCode === 0;
  if (!isClean && hasMarkers(await readFile(files[0]!, 'latin1'))) return 'marked';
  const written = await git(['hash-object', '-w', '--stdin'], { env, input: merged.stdout });
  return { oid: written.stdout.toString('latin1').trim(), isClean };
}

/** Whether a text has conflict markers, of git's making or ours. */
function hasMarkers(text: string): boolean {
  return [/^<{7} /m, /^={7}$/m, /^>{7} /m].every((line) => line.test(text));
}

/** Whether a text has conflict markers of ours. */
export function hasOwnMarkers(text: string): boolean {
  return hasMarkers(text) && text.split('\n').includes(`<<<<<<< ${hereLabel}`);
}
