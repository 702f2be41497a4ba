import { existsSync } from 'node:fs';
import { mkdir, readFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { BangerError, errnoOf } from '../../errors.ts';
import type { Exec } from '../exec.ts';
import { writeFileAtomic } from '../files.ts';

/** Where udev keeps what lasts until the host boots again. */
const defaultUdevDirectory = '/run/udev';
const reloadTimeoutMs = 10_000;

/**
 * After the rules that name a device and before those that look into it, on every distribution: what is set here stays
 * set. `dmsetup create` has options for some of these flags only.
 */
const rules = `# Made by banger. Guests write what is on these devices: the host is not to look for filesystems, volumes or
# mounts there, or a guest could take the place of a disk of the host's by its UUID or label.
ACTION!="remove", SUBSYSTEM=="block", KERNEL=="dm-*", ATTR{dm/name}=="banger-*", \\
  ENV{DM_UDEV_DISABLE_SUBSYSTEM_RULES_FLAG}="1", ENV{DM_UDEV_DISABLE_DISK_RULES_FLAG}="1", \\
  ENV{DM_UDEV_DISABLE_OTHER_RULES_FLAG}="1", ENV{SYSTEMD_READY}="0", ENV{UDISKS_IGNORE}="1", OPTIONS:="nowatch"
`;

/**
 * Keeps the host's udev from reading devices of device-mapper that are ours. To be called before each is made: where
 * there is no udev it does nothing, and rules that somebody has removed or changed are made again.
 */
export async function keepUdevAway(exec: Exec, directory = defaultUdevDirectory): Promise<void> {
  if (!existsSync(join(directory, 'control'))) return;
  const file = join(directory, 'rules.d', '11-banger.rules');
  if ((await contentOf(file)) === rules) return;
  await mkdir(dirname(file), { recursive: true, mode: 0o755 });
  await writeFileAtomic(file, rules, 0o644);
  // It finds them by itself, but not for a device that is made within 3 s of when it last looked.
  await exec(['udevadm', 'control', '--reload'], { timeoutMs: reloadTimeoutMs }).catch((error: unknown) => {
    // One that has gone and left its socket reads no device.
    if (!(error instanceof BangerError)) throw error;
  });
}

async function contentOf(file: string): Promise<string | undefined> {
  try {
    return await readFile(file, 'utf8');
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return undefined;
    throw error;
  }
}
