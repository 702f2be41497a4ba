import { randomUUID } from 'node:crypto';
import { chmod, mkdir, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { errnoOf } from '../../errors.ts';
import type { VmmNetwork } from './driver.ts';
import { removeJail } from './firecracker/chroot.ts';
import { jailDirectory } from './firecracker/jail.ts';

/** Where the host says who answers its questions for names. */
export const hostResolvers = '/etc/resolv.conf';

/**
 * Makes the directory that is all of the filesystem that a QEMU of root's sees once its machine is made, in place of
 * one that was left over: root's, and nothing in it but what its user network looks up names by. It goes as a jail does.
 */
export async function makeOwnRoot(vmmLog: string, { user, tap }: VmmNetwork): Promise<string> {
  const directory = jailDirectory(vmmLog);
  await removeJail(directory);
  const etc = join(directory, 'etc');
  await mkdir(etc, { recursive: true });
  // Whatever our umask is: it is looked at by a user who owns nothing.
  for (const path of [directory, etc]) await chmod(path, 0o755);
  // Beside a bridge that network is a way in.
  await writeResolvers(etc, user && !tap ? await readHostResolvers() : '');
  return directory;
}

export async function removeOwnRoot(vmmLog: string): Promise<void> {
  await removeJail(jailDirectory(vmmLog));
}

/** A host without such a file has no name servers to tell of. */
export async function readHostResolvers(path = hostResolvers): Promise<string> {
  try {
    return await readFile(path, 'utf8');
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return '';
    throw error;
  }
}

/**
 * Gives a QEMU that runs in a root directory of its own what it is to look up names by from now on: the old text or the
 * new, never a mixture. False when it has no such directory.
 */
export async function updateResolvers(vmmLog: string, text: string): Promise<boolean> {
  try {
    await writeResolvers(join(jailDirectory(vmmLog), 'etc'), text);
    return true;
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return false;
    throw error;
  }
}

/** The directory is root's. Who starts the VM may write at the same time as who tells it of a change. */
async function writeResolvers(etc: string, text: string): Promise<void> {
  const fresh = join(etc, `.resolv.conf.${randomUUID()}`);
  try {
    await writeFile(fresh, text, { flag: 'wx' });
    await chmod(fresh, 0o644);
    // Not flushed: it is written anew at each start.
    await rename(fresh, join(etc, 'resolv.conf'));
  } catch (error) {
    await rm(fresh, { force: true });
    throw error;
  }
}
