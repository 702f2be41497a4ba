import { closeSync, openSync, readFileSync } from 'node:fs';
import { BangerError, errnoOf, errorText } from '../../../errors.ts';
import type { Exec } from '../../exec.ts';

/** The program that is a network for a namespace, as QEMU has one inside. */
export const networkProgram = 'slirp4netns';

/** How an error begins about a network that could not be made for a VM. */
export const networkFailedWords = "Firecracker's network cannot be made here: ";

/** As many descriptors as a jailer allows by itself. */
const mostOpenFiles = 2048;

/** How many descriptors a VMM may have: who has fewer cannot give more, and a VMM needs few. */
export function maxOpenFiles(limits = readFileSync('/proc/self/limits', 'utf8')): number {
  // "unlimited" is no number.
  const hard = Number(/^Max open files +\S+ +(\S+)/m.exec(limits)?.[1]);
  return Number.isInteger(hard) ? Math.min(hard, mostOpenFiles) : mostOpenFiles;
}

type Words = readonly [string, ...string[]];

/** And no file with the guest's memory in it when it crashes. */
function limitWords(openFiles: number): Words {
  return ['prlimit', '--core=0', `--nofile=${openFiles}`, '--'];
}

/** Words to start a program with, so that it has namespaces of its own, and no rights in them. */
export function namespaceWords(openFiles = maxOpenFiles()): Words {
  return [
    ...limitWords(openFiles),
    ...['unshare', '--user', '--map-root-user', '--net', '--'],
    ...['setpriv', '--no-new-privs', '--bounding-set=-all', '--inh-caps=-all', '--'],
  ];
}

/** The same for a VMM that has to be where the host's taps are. */
export function hostNetworkWords(): Words {
  return [...limitWords(maxOpenFiles()), 'setpriv', '--no-new-privs', '--'];
}

/** What root has to give up besides. */
export const withoutRightsWords = ['setpriv', '--bounding-set=-all', '--inh-caps=-all', '--'] as const;

/** The same before a jailer, which gives up root by itself. */
export function jailedNamespaceWords(): Words {
  return [...limitWords(maxOpenFiles()), 'unshare', '--net', '--', 'setpriv', '--no-new-privs', '--'];
}

/** Where slirp4netns of a VM is spoken to. No longer than the VMM's own socket. */
export function networkSocket(controlSocket: string): string {
  return `${controlSocket.replace(/\.control$/, '')}.slirp`;
}

/** What taps are made by. */
const tunDevice = '/dev/net/tun';

export interface RootlessQuestion {
  readonly isJailed?: boolean;
  readonly device?: string;
}

/** Why a VM cannot have this network here, in one phrase; undefined when it can. */
export async function rootlessRefusal(
  exec: Exec,
  { isJailed = false, device = tunDevice }: RootlessQuestion = {},
): Promise<string | undefined> {
  try {
    await exec([networkProgram, '--version']);
    await exec(['ip', '-Version']);
    await exec(['nft', '--version']);
  } catch (error) {
    if (!(error instanceof BangerError)) throw error;
    return `its network needs the programs slirp4netns, ip and nft: ${errorText(error)}`;
  }
  try {
    await exec([...(isJailed ? jailedNamespaceWords() : namespaceWords()), 'true']);
  } catch (error) {
    if (!(error instanceof BangerError)) throw error;
    return `its network needs a namespace, and this host lets us have none: ${errorText(error)}`;
  }
  try {
    // As slirp4netns does for its own root directory.
    const user = isJailed ? [] : (['--user', '--map-root-user'] as const);
    await exec(['unshare', ...user, '--mount', '--', 'mount', '-t', 'tmpfs', 'none', '/run']);
  } catch (error) {
    if (!(error instanceof BangerError)) throw error;
    return `its network has to be confined, and this host does not let us do that: ${errorText(error)}`;
  }
  return tunRefusal(device);
}

/** Opened, and not asked about: a container may forbid root a device whose permissions do not. */
function tunRefusal(device: string): string | undefined {
  try {
    closeSync(openSync(device, 'r+'));
    return undefined;
  } catch (error) {
    const errno = errnoOf(error);
    if (errno === undefined) throw error;
    return errno === 'ENOENT'
      ? `its network needs a tap, and ${device} does not exist`
      : `its network needs a tap, and ${device} may not be opened by you (${errno})`;
  }
}
