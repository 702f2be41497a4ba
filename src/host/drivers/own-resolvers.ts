import { randomUUID } from 'node:crypto';
import { chmod, mkdir, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { errnoOf } from '../../errors.ts';
import { jailDirectory } from './firecracker/jail.ts';

/** Where the host says who answers its questions for names. */
export const hostResolvers = '/etc/resolv.conf';

/**
 * Makes the directory that is `/etc` for what looks up names for a VM of root's, its QEMU or its slirp4netns, and sees
 * nothing of the host's: it is in the VM's jail, and goes with that.
 */
export async function makeResolvers(vmmLog: string, text: string): Promise<string> {
  const etc = join(jailDirectory(vmmLog), 'etc');
  await mkdir(etc, { recursive: true });
  await writeResolvers(etc, text);
  return etc;
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
 * Gives a VM that has such a directory what it is to look up names by from now on: the old text or the new, never a
 * mixture. False when it has none.
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
