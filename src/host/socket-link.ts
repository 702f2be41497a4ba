import { randomBytes } from 'node:crypto';
import { constants } from 'node:fs';
import { access, lstat, readlink, rename, rm, stat, symlink, unlink } from 'node:fs/promises';
import { basename, dirname } from 'node:path';
import { BangerError, errnoOf } from '../errors.ts';

/**
 * A path of the user's that leads to a socket of ours, by a symbolic link: the name that it points to says whose it is,
 * so that one that an engine left behind is known again, also when our directory was another then, and nobody else's
 * file is ever taken for it.
 */
export interface SocketLink {
  readonly path: string;
  /** In a directory of ours, under a name that no other has */
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
    const found = await findLink(path);
    if (!found || !isOurs(found, target)) throw pathTaken(path);
    if (found.target !== target) await replaceLink({ path, target });
  }
}

/** Nobody finds nothing there meanwhile. */
async function replaceLink({ path, target }: SocketLink): Promise<void> {
  const temporary = `${path}.${randomBytes(4).toString('hex')}.tmp`;
  try {
    await symlink(target, temporary);
    await rename(temporary, path);
  } catch (error) {
    await rm(temporary, { force: true });
    throw notWritable(path, error);
  }
}

/** Removes it. One that is gone, or is no link of ours any more, counts as removed. */
export async function removeSocketLink({ path, target }: SocketLink): Promise<void> {
  const found = await findLink(path);
  if (!found || !isOurs(found, target)) return;
  await unlink(path).catch((error: unknown) => {
    if (errnoOf(error) !== 'ENOENT') throw error;
  });
}

async function isTaken({ path, target }: SocketLink): Promise<boolean> {
  const found = await findLink(path);
  return found !== undefined && !isOurs(found, target);
}

interface FoundLink {
  readonly uid: number;
  /** Undefined when it is no link */
  readonly target: string | undefined;
}

/** Undefined when nothing is there. */
async function findLink(path: string): Promise<FoundLink | undefined> {
  const found = await lstat(path).catch(() => undefined);
  return found && { uid: found.uid, target: await readlink(path).catch(() => undefined) };
}

/** Anybody can make a link to any name: it is ours only if our user has made it. */
function isOurs(found: FoundLink, target: string): boolean {
  const name = basename(target);
  return name !== '' && found.uid === process.getuid!() && basename(found.target ?? '') === name;
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
