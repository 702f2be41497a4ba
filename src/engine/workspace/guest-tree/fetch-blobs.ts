import { randomUUID } from 'node:crypto';
import { createWriteStream } from 'node:fs';
import { join } from 'node:path';
import type { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { abortError, BangerError, errnoOf, errorText } from '../../../errors.ts';
import { guestDataMemoryBytes, isOutOfMemory } from '../../../host/memory-limit.ts';
import { formatBytes } from '../../../state/units.ts';
import type { Operation } from '../../operations.ts';
import { guestGitEnvironment, guestGitSettings } from './changes-script.ts';
import { unreadable, type GuestWorkspace } from './guest-changes.ts';
import { complaint } from './guest-git.ts';
import type { Repository } from '../host-tree/repository.ts';
import type { GitVariables } from '../host-tree/scratch-objects.ts';

/** More than this compressed is no change to review. */
const defaultMaxPackBytes = 1024 ** 3;
/** What it may unpack to: a guest can send a gigabyte of zeros in a megabyte. */
const maxContentBytes = 4 * 1024 ** 3;

export interface FetchTarget {
  readonly repository: Repository;
  readonly env: GitVariables;
  readonly scratch: string;
  /** Compressed, all of it; for tests */
  readonly maxPackBytes?: number;
}

/**
 * Gets blobs from a guest's repository into the scratch objects, as a pack, which git on the host checks against
 * their names: a guest can hold content back, but not pass off other content as it.
 */
export async function fetchBlobs(
  workspace: GuestWorkspace,
  oids: readonly string[],
  { repository, env, scratch, maxPackBytes = defaultMaxPackBytes }: FetchTarget,
  operation: Pick<Operation, 'progress'>,
): Promise<void> {
  const missing = await missingBlobs(repository, env, oids);
  if (missing.length === 0) return;
  const file = join(scratch, 'objects', 'pack', `pack-${randomUUID()}.pack`);
  await receivePack(workspace, { oids: missing, file, maxPackBytes }, operation);
  try {
    // One thread: each would have files of its own in memory.
    await repository.git(['index-pack', '--strict', '--threads=1', file], {
      env,
      maxMemoryBytes: guestDataMemoryBytes,
    });
  } catch (error) {
    if (isOutOfMemory(errorText(error))) throw unpacksToMuch(workspace);
    throw lied(workspace, `a pack that git refuses (${errorText(error)})`);
  }
  const still = await missingBlobs(repository, env, missing);
  if (still.length > 0) throw lied(workspace, `a pack without ${still.length} of the files asked for`);
}

/** Those of these blobs that neither host nor guest has. */
export async function findLostBlobs(
  workspace: GuestWorkspace,
  oids: readonly string[],
  { repository, env }: FetchTarget,
): Promise<ReadonlySet<string>> {
  const missing = oids.length === 0 ? [] : await missingBlobs(repository, env, oids);
  const there = await askSizes(workspace, missing);
  return new Set(missing.filter((oid) => !there.has(oid)));
}

/** Sizes of those of these blobs that a guest has. */
export async function askSizes(
  workspace: GuestWorkspace,
  oids: readonly string[],
): Promise<ReadonlyMap<string, number>> {
  if (oids.length === 0) return new Map();
  const { guest, ensureGit, guestPath, signal } = workspace;
  const command = [await ensureGit(), '-C', guestPath, ...guestGitSettings, 'cat-file', '--batch-check'];
  const input = Buffer.from(oids.map((oid) => `${oid}\n`).join(''));
  const { exit, stdout, stderr } = await guest.run(command, { env: guestGitEnvironment, input, signal });
  if (exit.code !== 0) throw unreadable(workspace, stderr);
  const found = stdout.toString('latin1').matchAll(/^([0-9a-f]{40,64}) blob (\d+)$/gm);
  const asked = new Set(oids);
  return new Map([...found].flatMap(([, oid, size]) => (asked.has(oid!) ? [[oid!, Number(size)]] : [])));
}

/** Those that neither the user's repository nor the scratch objects have. Throws when they are too large together. */
async function missingBlobs(
  { git }: Repository,
  env: GitVariables,
  oids: readonly string[],
): Promise<string[]> {
  const input = Buffer.from(oids.map((oid) => `${oid}\n`).join(''));
  const output = await git(['cat-file', '--batch-check=%(objecttype) %(objectsize)'], { env, input });
  const lines = output.stdout.toString('latin1').split('\n').slice(0, -1);
  let bytes = 0;
  const missing = oids.filter((_, index) => {
    const [type, size] = lines[index]!.split(' ');
    if (type === 'blob') bytes += Number(size);
    return type !== 'blob';
  });
  if (bytes <= maxContentBytes) return missing;
  throw new BangerError(
    'command_failed',
    `The changed files have ${formatBytes(bytes)}, more than the ${formatBytes(maxContentBytes)} that can be applied`,
    { hint: 'Add large files to .gitignore in the VM, and copy them by themselves' },
  );
}

interface WantedPack {
  readonly oids: readonly string[];
  readonly file: string;
  readonly maxPackBytes: number;
}

async function receivePack(
  { guest, ensureGit, guestPath, vmName, signal }: GuestWorkspace,
  { oids, file, maxPackBytes }: WantedPack,
  operation: Pick<Operation, 'progress'>,
): Promise<void> {
  const process = await guest.spawn(
    [await ensureGit(), '-C', guestPath, ...guestGitSettings, 'pack-objects', '--stdout', '-q'],
    { env: guestGitEnvironment, signal },
  );
  const errors: Buffer[] = [];
  process.stderr.on('data', (chunk: Buffer) => {
    if (errors.length < 16) errors.push(chunk);
  });
  process.stdio.end(oids.map((oid) => `${oid}\n`).join(''));
  let bytes = 0;
  const measured = async function* (source: Readable): AsyncGenerator<Buffer> {
    for await (const chunk of source as AsyncIterable<Buffer>) {
      bytes += chunk.length;
      if (bytes > maxPackBytes) throw tooLarge(vmName, maxPackBytes);
      operation.progress({ done: bytes, unit: 'bytes' });
      yield chunk;
    }
  };
  try {
    await pipeline(process.stdio, measured, createWriteStream(file, { mode: 0o600 }));
  } catch (error) {
    process.close();
    if (signal.aborted) throw abortError(signal);
    // A connection that is lost ends the stream first; how it was lost is told here.
    if (errnoOf(error) === 'ERR_STREAM_PREMATURE_CLOSE') await process.exit;
    throw error;
  }
  const exit = await process.exit;
  if (exit.code === 0) return;
  const stderr = Buffer.concat(errors).toString('utf8');
  throw new BangerError(
    'command_failed',
    `git in VM "${vmName}" cannot read what changed in "${guestPath}"${complaint({ stderr })}`,
    { hint: `Look at it with: banger vm exec ${vmName} -- git -C ${guestPath} fsck` },
  );
}

function tooLarge(vmName: string, maxPackBytes: number): BangerError {
  return new BangerError(
    'command_failed',
    `The changes in VM "${vmName}" have more than ${formatBytes(maxPackBytes)}, compressed`,
    { hint: 'Add large files to .gitignore in the VM, and copy them by themselves' },
  );
}

function unpacksToMuch({ vmName, guestPath }: GuestWorkspace): BangerError {
  return new BangerError(
    'command_failed',
    `The changes in VM "${vmName}" take more than ${formatBytes(guestDataMemoryBytes)} of memory to unpack; nothing was applied`,
    {
      hint: `Look for files that are larger than that, and add them to .gitignore: banger vm exec ${vmName} -- git -C ${guestPath} status`,
    },
  );
}

function lied({ vmName }: GuestWorkspace, what: string): BangerError {
  return new BangerError('command_failed', `VM "${vmName}" answered with ${what}; nothing was applied`, {
    hint: `Do not trust what is in it, or look at it with: banger vm ssh ${vmName}`,
  });
}
