import { constants, type Stats } from 'node:fs';
import {
  chmod,
  chown,
  copyFile,
  link,
  lstat,
  mkdir,
  open,
  readdir,
  readFile,
  realpath,
  rename,
  rm,
  rmdir,
  stat,
  symlink,
  unlink,
  type FileHandle,
} from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { BangerError, errnoOf } from '../../../errors.ts';
import type { Exec } from '../../exec.ts';
import type { VmmDisk } from '../driver.ts';
import { explainJailRefusal } from './jail-refusal.ts';
import { insidePaths, jailPaths, type Jailing, type JailPaths } from './jail.ts';

/** What a jailed Firecracker needs to find inside. */
export interface JailContent {
  readonly id: string;
  readonly kernel: string;
  readonly initrd: string;
  readonly disk?: VmmDisk;
  /** Does not exist yet */
  readonly vmmLog: string;
}

/**
 * Makes the directory that will be all of the filesystem that a Firecracker sees, in place of one that was left over.
 * What is shared with other VMs never changes hands; the VM's own disk and log become its user's.
 */
export async function makeJail(
  exec: Exec,
  { id, kernel, initrd, disk, vmmLog }: JailContent,
  { execFile, user }: Jailing,
): Promise<JailPaths> {
  const paths = jailPaths(vmmLog, id, execFile);
  const inside = (path: string): string => join(paths.root, path);
  await removeJail(paths.directory);
  await checkParents(dirname(paths.directory));
  try {
    await mkdir(paths.root, { recursive: true, mode: 0o700 });
    await shareFile(kernel, inside(insidePaths.kernel));
    // The VM's own, with its keys: nobody else may read it.
    await copyFile(initrd, inside(insidePaths.initrd), constants.COPYFILE_FICLONE);
    await chmod(inside(insidePaths.initrd), 0o400);
    await chown(inside(insidePaths.initrd), user, user);
    await (await open(vmmLog, 'ax', 0o600)).close();
    await giveFile(vmmLog, inside(insidePaths.vmmLog), user);
    if (disk) await giveDisk(exec, { from: disk.path, to: inside(insidePaths.disk), user });
    return paths;
  } catch (error) {
    await removeJail(paths.directory);
    throw explainJailRefusal(error, paths.directory);
  }
}

/** Whoever may write to a directory above could put another jail in this one's place. */
async function checkParents(path: string): Promise<void> {
  for (let above = await realpath(path); ; above = dirname(above)) {
    const { uid, mode } = await stat(above);
    const isSticky = (mode & 0o1000) !== 0;
    const isOpen = (mode & 0o022) !== 0 && !isSticky;
    if (isOpen || (uid !== 0 && uid !== process.getuid!())) {
      throw new BangerError(
        'host_unsupported',
        `Firecracker's jail cannot be in "${path}": "${above}" ${isOpen ? 'can be written to by other users' : `belongs to user ${uid}`}`,
        { hint: 'Choose another place: BANGER_HOME=DIR banger …' },
      );
    }
    if (above === '/') return;
  }
}

/** A file that others use as well: the same one where the jailed user can read it and nobody but root write it. */
async function shareFile(from: string, to: string): Promise<void> {
  const { uid, mode } = await stat(from);
  const isFit = uid === 0 && (mode & 0o004) !== 0 && (mode & 0o022) === 0;
  if (isFit && (await linked(await realpath(from), to))) return;
  await copyFile(from, to, constants.COPYFILE_FICLONE);
  await chmod(to, 0o444);
}

/** False when they are on different filesystems, or this one has no more links to give. */
async function linked(from: string, to: string): Promise<boolean> {
  try {
    await link(from, to);
    return true;
  } catch (error) {
    const errno = errnoOf(error);
    if (errno === 'EXDEV' || errno === 'EMLINK' || errno === 'EPERM') return false;
    throw error;
  }
}

/** A file that is this VM's alone. */
async function giveFile(from: string, to: string, user: number): Promise<void> {
  const file = await open(from, constants.O_RDONLY | constants.O_NOFOLLOW);
  try {
    const found = await file.stat();
    if (!found.isFile() || found.nlink !== 1)
      throw new BangerError(
        'invalid_state',
        `"${from}" is not this VM's alone, and cannot be given to its user`,
        {
          hint: `See what it is with: ls -l ${from}`,
        },
      );
    if (!(await linked(from, to)))
      throw new BangerError('host_unsupported', `"${from}" cannot be linked into the jail of its VM`, {
        hint: 'Let it run without one: set jailer = "never" under [vmm] in the configuration',
      });
    await file.chown(user, user);
  } finally {
    await file.close();
  }
}

/** A disk that was its user's while it was jailed is ours again: a VMM without rights reads what is its own only. */
export async function takeDiskBack(path: string, user: number): Promise<void> {
  const found = await lstat(path);
  if (!found.isFile() || found.uid !== user) return;
  const file = await open(path, constants.O_RDONLY | constants.O_NOFOLLOW);
  try {
    if ((await file.stat()).uid === user) await file.chown(process.getuid!(), process.getgid!());
  } finally {
    await file.close();
  }
}

async function giveDisk(
  exec: Exec,
  { from, to, user }: { readonly from: string; readonly to: string; readonly user: number },
): Promise<void> {
  const found = await stat(from);
  if (!found.isBlockDevice()) return giveFile(from, to, user);
  const { major, minor } = deviceNumber(found);
  await exec(['mknod', '--mode=0600', to, 'b', String(major), String(minor)]);
  await chown(to, user, user);
}

/** As the C library splits them (makedev(3)). */
export function deviceNumber({ rdev }: Pick<Stats, 'rdev'>): {
  readonly major: number;
  readonly minor: number;
} {
  const number = BigInt(rdev);
  return {
    major: Number(((number >> 8n) & 0xfffn) | ((number >> 32n) & ~0xfffn)),
    minor: Number((number & 0xffn) | ((number >> 12n) & ~0xffn)),
  };
}

/**
 * Makes the socket of a jailed Firecracker reachable as `controlSocket`; false while there is none yet.
 *
 * The path is too long for a socket's address, and its last part the jailed user's: a link there would lead whoever
 * trusts it, root, to any socket of the host. So what is connected to is another name of the same socket, in a
 * directory of root's, over a link that is short.
 */
export async function publishSocket(
  { socket, pinnedSocket }: JailPaths,
  { controlSocket, user }: { readonly controlSocket: string; readonly user: number },
): Promise<boolean> {
  try {
    await link(socket, pinnedSocket);
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return false;
    throw error;
  }
  const found = await lstat(pinnedSocket);
  if (!found.isSocket() || found.uid !== user) {
    await unlink(pinnedSocket);
    throw new BangerError(
      'command_failed',
      `"${socket}" is not the socket of the Firecracker that was started`,
    );
  }
  await symlink(pinnedSocket, controlSocket);
  return true;
}

/** True when the Firecracker behind this socket sees the paths of a jail. */
export async function isJailed(controlSocket: string): Promise<boolean> {
  const found = await lstat(controlSocket).catch(() => undefined);
  return found?.isSymbolicLink() ?? false;
}

const maxRounds = 1000;

/**
 * Removes a jail, whatever its user has made of it. One that is gone counts as removed.
 *
 * No link is followed and nothing outside is reached, even while something in it still runs and moves things: every
 * name is one directly below a directory that is held open. Directories are moved up before they are emptied, so
 * that no nesting is too deep. Throws `busy` when something is mounted in it.
 */
export async function removeJail(directory: string): Promise<void> {
  const top = await openDirectory(directory);
  if (!top) return;
  try {
    await refuseMounts(await realpath(directory));
    const below = `/proc/self/fd/${top.fd}`;
    let moved = 0;
    for (let round = 0; ; round++) {
      const entries = await readdir(below, { withFileTypes: true });
      if (entries.length === 0) break;
      if (round > maxRounds + moved) throw stillUsed(directory);
      for (const entry of entries) {
        const path = join(below, entry.name);
        if (entry.isDirectory()) {
          // Names of ours, in a directory that is ours alone.
          await emptyDirectory(path, () => join(below, `removed-${moved++}`));
        } else await rm(path, { force: true });
      }
    }
  } finally {
    await top.close();
  }
  await rmdir(directory);
}

/** Removes a directory with its files; directories in it are moved to where `place` says. */
async function emptyDirectory(path: string, place: () => string): Promise<void> {
  const handle = await openDirectory(path);
  if (!handle) return;
  try {
    const below = `/proc/self/fd/${handle.fd}`;
    for (const entry of await readdir(below, { withFileTypes: true })) {
      const inner = join(below, entry.name);
      if (entry.isDirectory()) await rename(inner, place());
      else await unlink(inner);
    }
  } catch (error) {
    // Somebody is faster, and is met again in the next round.
    if (!isOvertaken(error)) throw error;
  } finally {
    await handle.close();
  }
  try {
    await rmdir(path);
  } catch (error) {
    if (!isOvertaken(error)) throw error;
  }
}

function isOvertaken(error: unknown): boolean {
  return ['ENOENT', 'ENOTEMPTY', 'EEXIST', 'EISDIR', 'ENOTDIR'].includes(errnoOf(error) ?? '');
}

/** Undefined when there is none, or something else in its place. */
export async function openDirectory(path: string): Promise<FileHandle | undefined> {
  try {
    return await open(path, constants.O_RDONLY | constants.O_DIRECTORY | constants.O_NOFOLLOW);
  } catch (error) {
    const errno = errnoOf(error);
    if (errno === 'ENOENT' || errno === 'ENOTDIR' || errno === 'ELOOP') return undefined;
    throw error;
  }
}

/** The jailer mounts in a namespace of its own. What is mounted in ours is somebody's, and not emptied. */
async function refuseMounts(directory: string): Promise<void> {
  const lines = (await readFile('/proc/self/mountinfo', 'utf8')).split('\n');
  const points = lines.map((line) => unescapeMount(line.split(' ')[4] ?? ''));
  const mounted = points.find((point) => point === directory || point.startsWith(`${directory}/`));
  if (mounted === undefined) return;
  throw new BangerError('busy', `"${mounted}", in the jail of a VM, has something mounted on it`, {
    hint: `Unmount it, and try again: umount ${mounted}`,
  });
}

/** A path as the kernel's tables of mounts write it (proc(5)). */
export function unescapeMount(path: string): string {
  return path.replace(/\\([0-7]{3})/g, (_, octal: string) => String.fromCharCode(Number.parseInt(octal, 8)));
}

function stillUsed(directory: string): BangerError {
  return new BangerError(
    'busy',
    `The jail "${directory}" cannot be removed: something in it keeps making files`,
    {
      hint: `See what runs there with: fuser -v ${directory}`,
    },
  );
}
