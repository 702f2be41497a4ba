import { appendFile, chmod, copyFile, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { cpioArchive } from '../cpio.ts';
import { userCard } from '../drivers/driver.ts';
import type { HostKey } from '../keys.ts';
import type { TrialBootInput } from './trial-boot.ts';

/** What the guest expects in its initramfs, see guest/init. */
export async function writeTrialInitrd(
  input: Pick<TrialBootInput, 'directory' | 'toolbox' | 'modules'>,
  hostKey: HostKey,
  clientKey: string,
): Promise<string> {
  const path = join(input.directory, 'initrd.cpio');
  const conf = {
    HOSTNAME: 'doctor',
    ADDRESS: userCard.address,
    GATEWAY: userCard.gateway,
    DNS: userCard.dns,
    ROOT_DEVICE: '/dev/vda',
    GROW: "''",
  };
  const assignments = Object.entries(conf).map(([name, value]) => `${name}=${value}\n`);
  await copyFile(await input.toolbox(), path);
  await chmod(path, 0o600);
  await appendFile(path, await readFile(await input.modules()));
  await appendFile(
    path,
    cpioArchive([
      { path: '/etc/banger/vm.conf', content: assignments.join(''), mode: 0o600 },
      { path: '/etc/banger/host_key', content: hostKey.dropbear, mode: 0o600 },
      { path: '/etc/banger/env', content: '', mode: 0o600 },
      { path: '/root/.ssh/authorized_keys', content: `${clientKey}\n`, mode: 0o600 },
    ]),
  );
  return path;
}
