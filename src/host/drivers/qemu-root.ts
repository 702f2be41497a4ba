import { chmod } from 'node:fs/promises';
import type { VmmNetwork } from './driver.ts';
import { removeJail } from './firecracker/chroot.ts';
import { jailDirectory } from './firecracker/jail.ts';
import { makeResolvers, readHostResolvers } from './own-resolvers.ts';

/**
 * Makes the directory that is all of the filesystem that a QEMU of root's sees once its machine is made, in place of
 * one that was left over: root's, and nothing in it but what its user network looks up names by. It goes as a jail does.
 */
export async function makeOwnRoot(vmmLog: string, { user, tap }: VmmNetwork): Promise<string> {
  const directory = jailDirectory(vmmLog);
  await removeJail(directory);
  // Beside a bridge that network is a way in.
  const etc = await makeResolvers(vmmLog, user && !tap ? await readHostResolvers() : '');
  // Whatever our umask is: it is looked at by a user who owns nothing.
  for (const path of [directory, etc]) await chmod(path, 0o755);
  return directory;
}

export async function removeOwnRoot(vmmLog: string): Promise<void> {
  await removeJail(jailDirectory(vmmLog));
}
