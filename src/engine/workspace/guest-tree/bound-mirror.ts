import { mkdir, symlink } from 'node:fs/promises';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { BangerError } from '../../../errors.ts';
import { startChildStream } from '../../../host/child-stream.ts';
import { guestDataMemoryBytes, isOutOfMemory } from '../../../host/memory-limit.ts';
import { formatBytes } from '../../../state/units.ts';
import { collectErrors } from './guest-changes.ts';
import { mirrorEnvironment, type Mirror } from './mirror.ts';

/** Of what came from a guest: what the user's git is served, which has no limit of memory. */
export interface MirrorBounds {
  /** A larger object is refused: git may hold it as a whole */
  readonly objectBytes: number;
  /** A larger one is no delta: git works those out in many threads at once, each with all of two objects in memory */
  readonly deltaBytes: number;
  /** All that are no deltas for that reason: they take as much room */
  readonly largeBytes: number;
}

const mib = 1024 ** 2;
export const defaultBounds: MirrorBounds = {
  objectBytes: 512 * mib,
  deltaBytes: 16 * mib,
  largeBytes: 4096 * mib,
};

/**
 * Makes what was fetched from a guest into what any git can take: a pack of a few kilobytes may unpack to gigabytes.
 * Throws when that cannot be.
 */
export async function boundMirror(mirror: Mirror, { vmName, bounds, signal }: MirrorToBound): Promise<void> {
  const { largest, large } = await measure(mirror, bounds, signal);
  if (largest > bounds.objectBytes) throw tooLarge(vmName, 'a file', largest, bounds.objectBytes);
  if (large > bounds.largeBytes) throw tooLarge(vmName, 'large files', large, bounds.largeBytes);
  if (large === 0) return;
  const settings = [`core.bigFileThreshold=${bounds.deltaBytes}`, 'pack.threads=1'];
  try {
    await mirror.git([...settings.flatMap((each) => ['-c', each]), 'repack', '-a', '-d', '-l', '-f', '-q'], {
      maxMemoryBytes: guestDataMemoryBytes,
    });
  } catch (error) {
    if (error instanceof Error && isOutOfMemory(error.message)) throw unpacksToMuch(vmName);
    throw error;
  }
}

export interface MirrorToBound {
  readonly vmName: string;
  readonly bounds: MirrorBounds;
  readonly signal: AbortSignal;
}

/** How large the largest object is that was fetched, and those together that are too large to be deltas. */
async function measure(
  { path }: Mirror,
  { deltaBytes }: MirrorBounds,
  signal: AbortSignal,
): Promise<{ readonly largest: number; readonly large: number }> {
  // The same packs, without the user's objects: there may be many, of any size.
  const own = join(path, 'own-objects');
  await mkdir(own);
  await symlink(join(path, 'objects', 'pack'), join(own, 'pack'));
  const list = ['cat-file', '--batch-all-objects', '--unordered', '--batch-check=%(objectsize)'] as const;
  const child = startChildStream(['git', ...list], {
    cwd: path,
    env: { ...mirrorEnvironment(), GIT_OBJECT_DIRECTORY: own },
    signal,
    maxMemoryBytes: guestDataMemoryBytes,
  });
  const said = collectErrors(child);
  child.stdio.end();
  let largest = 0;
  let large = 0;
  for await (const line of createInterface({ input: child.stdio })) {
    const bytes = Number(line);
    largest = Math.max(largest, bytes);
    if (bytes > deltaBytes) large += bytes;
  }
  const { code } = await child.exit;
  if (code === 0) return { largest, large };
  throw new BangerError('command_failed', `git cannot tell how much was fetched: ${said().trim()}`, {
    hint: 'Try again; if it stays so, look at the disk of this host',
  });
}

const wayOut = {
  hint: 'Take large files out of its commits, or get the changes with: banger workspace export',
};

function tooLarge(vmName: string, what: string, bytes: number, most: number): BangerError {
  return new BangerError(
    'command_failed',
    `VM "${vmName}" has ${what} of ${formatBytes(bytes)} that git here would have to take, more than ${formatBytes(most)}`,
    wayOut,
  );
}

export function unpacksToMuch(vmName: string): BangerError {
  return new BangerError(
    'command_failed',
    `What VM "${vmName}" has that is not here takes more than ${formatBytes(guestDataMemoryBytes)} of memory to unpack`,
    wayOut,
  );
}
