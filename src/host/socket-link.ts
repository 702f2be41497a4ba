import { constants } from 'node:fs';
import { access, lstat, readlink, stat, symlink, unlink } from 'node:fs/promises';
import { dirname } from 'node:path';
import { BangerError, errnoOf } from '../errors.ts';

/**
 * A path of the user's that leads to a socket of ours, by a symbolic link: what it points to says whose it is, so that
 * one that an engine left behind is known again, and nobody else's file is ever taken for it.
 */
export interface SocketLink {
  readonly path: string;
  /** In a directory of ours */
  readonly target: string;
}

/** Throws unless the link can be made now, or is there: `busy` when the path is taken. */
export async function checkSocketLink({ path, target }: SocketLink): Promise<void> {
  const parent = dirname(path);
  const what = await stat(parent).catch((error: unknown) => errnoOf(error));
  if (what === 'ENOENT')
    throw new BangerError('invalid_argument', `The directory of socket "${path}" does not exist`, {
      hint: `Make it with: mkdir -p ${parent}`,
    });
  if (typeof what !== 'object' || !what.isDirectory())
    throw new BangerError('invalid_argument', `"${parent}" is not a directory that could hold a socket`);
  await access(parent, constants.W_OK | constants.X_OK).catch((cause: unknown) => {
    throw notWritable(path, cause);
  });
  if (await isTaken({ path, target })) throw pathTaken(path);
}

/** Makes it so; one that is there already stays. Throws `busy` when the path is somebody else's. */
export async function ensureSocketLink({ path, target }: SocketLink): Promise<void> {
  try {
    await symlink(target, path);
  } catch (error) {
    if (errnoOf(error) !== 'EEXIST') throw notWritable(path, error);
    if (await isTaken({ path, target })) throw pathTaken(path);
  }
}

/** Removes it. One that is gone, or is no link of ours any more, counts as removed. */
export async function removeSocketLink({ path, target }: SocketLink): Promise<void> {
  if ((await targetOf(path)) !== target) return;
  await unlink(path).catch((error: unknown) => {
    if (errnoOf(error) !== 'ENOENT') throw error;
  });
}

async function isTaken({ path, target }: SocketLink): Promise<boolean> {
  const found = await lstat(path).catch(() => undefined);
  return found !== undefined && (await targetOf(path)) !== target;
}

async function targetOf(path: string): Promise<string | undefined> {
  return readlink(path).catch(() => undefined);
}

function pathTaken(path: string): BangerError {
  return new BangerError('busy', `"${path}" is there already, and not a socket of this VM`, {
    hint: `See what it is: ls -l ${path}; or publish at another path`,
  });
}

function notWritable(path: string, cause: unknown): unknown {
  const code = errnoOf(cause);
  if (code !== 'EACCES' && code !== 'EPERM' && code !== 'EROFS') return cause;
  return new BangerError(
    'host_unsupported',
    `Nothing can be made in "${dirname(path)}" for socket "${path}"`,
    {
      hint: 'Choose a path in a directory of yours',
      cause,
    },
  );
}
