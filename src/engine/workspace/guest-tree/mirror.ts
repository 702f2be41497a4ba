import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { BangerError } from '../../../errors.ts';
import type { Exec } from '../../../host/exec.ts';
import { readShallowFile } from '../host-tree/history.ts';
import { hostEnvironment } from '../host-tree/host-git.ts';
import { findRepository, type Repository } from '../host-tree/repository.ts';

/** Git in a mirror reads no configuration but the mirror's own, which we wrote. */
export function mirrorEnvironment(): Record<string, string | undefined> {
  return {
    ...hostEnvironment(),
    GIT_CONFIG_NOSYSTEM: '1',
    GIT_CONFIG_GLOBAL: '/dev/null',
    GIT_TERMINAL_PROMPT: '0',
    LC_ALL: 'C',
  };
}

export type MirrorGit = (
  args: readonly string[],
  options?: { input?: string; okExitCodes?: number[]; maxMemoryBytes?: number },
) => Promise<string>;

export interface Mirror {
  readonly path: string;
  readonly git: MirrorGit;
  /** The user's repository, whose objects the mirror has too; absent when it is gone, or is another one */
  readonly repository?: Repository;
}

export interface MirrorInput {
  readonly path: string;
  /** Top of the working tree that was sent */
  readonly hostPath: string;
  /** Name of an object that the guest has */
  readonly anyOid: string;
  /** Commit that was sent */
  readonly sent?: string;
  readonly signal: AbortSignal;
}

const timeoutMs = 15 * 60_000;

/** Makes an empty repository that also has the objects of the user's, which is only read. */
export async function createMirror(
  exec: Exec,
  { path, hostPath, anyOid, sent, signal }: MirrorInput,
): Promise<Mirror> {
  const git: MirrorGit = async (args, options = {}) => {
    const argv = ['git', '--no-replace-objects', '-C', path, ...args] as const;
    const { stdout } = await exec(argv, { ...options, env: mirrorEnvironment(), signal, timeoutMs });
    return stdout.toString('latin1').trim();
  };
  const format = anyOid.length === 64 ? 'sha256' : 'sha1';
  await exec(['git', 'init', '-q', '--bare', '--template=', `--object-format=${format}`, path], {
    env: mirrorEnvironment(),
    signal,
  });
  const repository = await ownRepository(exec, hostPath, { format, signal });
  if (!repository) return { path, git };
  await writeFile(join(path, 'objects', 'info', 'alternates'), `${repository.paths.objects}\n`);
  const ends = await readShallowFile(repository.paths.shallow);
  if (ends.size > 0) await writeFile(join(path, 'shallow'), [...ends].map((end) => `${end}\n`).join(''));
  // What is reachable from it need not be fetched, and is not cut where the guest's history is.
  if (sent !== undefined) await git(['update-ref', 'refs/banger/sent', sent], { okExitCodes: [1, 128] });
  return { path, git, repository };
}

async function ownRepository(
  exec: Exec,
  hostPath: string,
  { format, signal }: { readonly format: string; readonly signal: AbortSignal },
): Promise<Repository | undefined> {
  try {
    const repository = await findRepository(exec, hostPath, signal);
    return repository.topLevel === hostPath && repository.objectFormat === format ? repository : undefined;
  } catch (error) {
    // It has gone, or is no repository any more: all of it is fetched from the guest.
    if (error instanceof BangerError && ['not_found', 'invalid_argument'].includes(error.code))
      return undefined;
    throw error;
  }
}
