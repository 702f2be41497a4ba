import { BangerError, errorText } from '../../../errors.ts';
import type { Exec } from '../../exec.ts';

/** The program that is a network for a namespace, as QEMU has one inside. */
export const networkProgram = 'slirp4netns';

/** As many as a jailer allows by itself; and no file with the guest's memory in it when it crashes. */
const limitWords = ['prlimit', '--core=0', '--nofile=2048', '--'] as const;

/** Words to start a program with, so that it has namespaces of its own, and no rights in them. */
export const namespaceWords = [
  ...limitWords,
  ...['unshare', '--user', '--map-root-user', '--net', '--'],
  ...['setpriv', '--no-new-privs', '--bounding-set=-all', '--inh-caps=-all', '--'],
] as const;

/** The same for a VMM that has to be where the host's taps are. */
export const hostNetworkWords = [...limitWords, 'setpriv', '--no-new-privs', '--'] as const;
/** What root has to give up besides. */
export const withoutRightsWords = ['setpriv', '--bounding-set=-all', '--inh-caps=-all', '--'] as const;

/** The same before a jailer, which gives up root by itself. */
export const jailedNamespaceWords = [
  ...limitWords,
  'unshare',
  '--net',
  '--',
  'setpriv',
  '--no-new-privs',
  '--',
] as const;

/** Where slirp4netns of a VM is spoken to. No longer than the VMM's own socket. */
export function networkSocket(controlSocket: string): string {
  return `${controlSocket.replace(/\.control$/, '')}.slirp`;
}

/** Why a VM whose VMM is started with these words cannot have this network here, in one phrase; undefined when it can. */
export async function rootlessRefusal(
  exec: Exec,
  words: typeof namespaceWords | typeof jailedNamespaceWords = namespaceWords,
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
    await exec([...words, 'true']);
    return undefined;
  } catch (error) {
    if (!(error instanceof BangerError)) throw error;
    return `its network needs a namespace, and this host lets us have none: ${errorText(error)}`;
  }
}
