import { lstat, readFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { BangerError, errnoOf } from '../../../errors.ts';
import { readHead, type Head, type Repository } from './repository.ts';
import { stampOf } from './tree-files.ts';

/** How long a program that changes the index may take before we give up. */
const lockWaitMs = 10_000;
const lockPollMs = 100;

export interface WaitOptions {
  readonly signal: AbortSignal;
  /** How long to wait for git; 10 seconds when absent */
  readonly timeoutMs?: number;
}

/**
 * Waits until no git changes the index of a repository. While one does, files of the tree and index belong to
 * different states. Throws `busy` when it takes too long; a lock that nobody holds any more is not ours to remove.
 */
export async function waitForQuiet(
  { paths, topLevel }: Repository,
  { signal, timeoutMs = lockWaitMs }: WaitOptions,
): Promise<void> {
  const lock = `${paths.index}.lock`;
  const end = performance.now() + timeoutMs;
  while ((await stampAt(lock)) !== undefined) {
    if (performance.now() > end) {
      throw new BangerError('busy', `Another git is at work in "${topLevel}": "${lock}" exists`, {
        hint: `Wait until it has finished; if none runs, it was killed: rm ${lock}`,
      });
    }
    await delay(lockPollMs, undefined, { signal });
  }
}

/** What tells whether a repository is still as it was: its index and HEAD. `known`: a HEAD that was read just now. */
export async function repositoryStamp(repository: Repository, known?: Head): Promise<string> {
  const { git, paths } = repository;
  const [index, lock, { head, branch }] = await Promise.all([
    stampAt(paths.index),
    stampAt(`${paths.index}.lock`),
    known ?? readPlainHead(repository).then((plain) => plain ?? readHead(git)),
  ]);
  return JSON.stringify([index, lock, head, branch]);
}

/**
 * HEAD as its file and that of its branch say it, which is how git leaves them; undefined when they are otherwise: packed,
 * in a format of another kind, or not there. Git would take longer to start.
 */
async function readPlainHead({ paths }: Repository): Promise<Head | undefined> {
  const oidIn = (text: string | undefined): string | undefined =>
    /^([0-9a-f]{64}|[0-9a-f]{40})\n$/.exec(text ?? '')?.[1];
  const text = await textOf(join(paths.git, 'HEAD'));
  const detached = oidIn(text);
  if (detached !== undefined) return { head: detached };
  const [, branch] = /^ref: refs\/heads\/(.+)\n$/.exec(text ?? '') ?? [];
  if (branch === undefined) return undefined;
  // Worktrees have a HEAD of their own, and share objects and branches.
  const head = oidIn(await textOf(join(dirname(paths.objects), 'refs/heads', branch)));
  return head === undefined ? undefined : { head, branch };
}

async function textOf(path: string): Promise<string | undefined> {
  try {
    return await readFile(path, 'utf8');
  } catch (error) {
    if (errnoOf(error) === undefined) throw error;
    return undefined;
  }
}

async function stampAt(path: string): Promise<string | undefined> {
  try {
    return stampOf(await lstat(path, { bigint: true }));
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return undefined;
    throw error;
  }
}
