import { readFile } from 'node:fs/promises';
import type { Exec } from '../exec.ts';
import { findHostResolver, isToldOfNames, type HostResolver } from '../name-resolution.ts';
import { pass, type CheckResult } from './check.ts';

/** By what the user's configuration of ssh is known to include the VMs; see `commands/ssh-include.ts`. */
export const sshIncludeMark = '# >>> banger: VMs as NAME.vm';

export interface NamesInput {
  readonly exec: Exec;
  /** The user's own configuration of ssh */
  readonly sshConfig: string;
  readonly uid: number;
  /** The bridges that were set up for the user */
  readonly links: readonly string[];
  /** Where the files of the system are, for tests */
  readonly root?: string;
}

const resolverNames: Readonly<Record<HostResolver, string>> = {
  'systemd-resolved': 'systemd-resolved',
  'network-manager': "NetworkManager's dnsmasq",
  dnsmasq: 'dnsmasq',
  other: 'the name servers of /etc/resolv.conf',
};

/** How other programs of this host find VMs by name. For information: all of it can do without. */
export async function checkNames({ exec, sshConfig, uid, links, root }: NamesInput): Promise<CheckResult> {
  const subject = { id: 'names', title: 'Names' };
  const text = await readFile(sshConfig, 'utf8').catch(() => '');
  const ssh = text.includes(sshIncludeMark)
    ? 'ssh NAME.vm works'
    : 'ssh does not know VMs (banger ssh-config --install)';
  const resolver = await findHostResolver(exec, root);
  const isTold = await isToldOfNames(exec, { resolver, uid, links, root });
  return pass(
    subject,
    `${ssh}; ${resolverNames[resolver]} ${isTold ? 'asks banger' : resolver === 'other' ? 'do not ask banger' : 'does not ask banger'} for NAME.vm`,
  );
}
