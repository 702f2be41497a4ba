import { readdir, readFile, readlink } from 'node:fs/promises';
import { join } from 'node:path';
import type { Exec } from './exec.ts';

/** What programs of this host ask for names. */
export type HostResolver = 'systemd-resolved' | 'network-manager' | 'dnsmasq' | 'other';

/** Finds out who answers for names here, from files alone; `root` is where they are. */
export async function findHostResolver(root = '/'): Promise<HostResolver> {
  const target = await readlink(join(root, 'etc/resolv.conf')).catch(() => '');
  const resolvConf = await textOf(join(root, 'etc/resolv.conf'));
  const servers = [...resolvConf.matchAll(/^\s*nameserver\s+(\S+)/gm)].map(([, server]) => server!);
  if (target.includes('systemd/resolve') || servers.some((one) => /^127\.0\.0\.5[34]$/.test(one))) {
    return 'systemd-resolved';
  }
  if (!servers.some((one) => one.startsWith('127.') || one === '::1')) return 'other';
  const directory = join(root, 'etc/NetworkManager');
  const files = await readdir(join(directory, 'conf.d')).catch(() => []);
  const configs = await Promise.all(
    ['NetworkManager.conf', ...files.map((file) => join('conf.d', file))].map((file) =>
      textOf(join(directory, file)),
    ),
  );
  if (configs.some((text) => /^\s*dns\s*=\s*dnsmasq\s*$/m.test(text))) return 'network-manager';
  const isDnsmasq = (await readdir(join(root, 'etc/dnsmasq.d')).catch(() => undefined)) !== undefined;
  return isDnsmasq ? 'dnsmasq' : 'other';
}

type Argv = readonly [string, ...string[]];

/** Below which VMs have their names. */
const vmDomain = 'vm';

/** How the host learns whom to ask for names of VMs, and how it forgets that. What it makes is ours alone. */
export interface NamePlan {
  readonly resolver: HostResolver;
  readonly files: readonly { readonly path: string; readonly text: string }[];
  /** Programs to run once the files and the links are there */
  readonly apply: readonly Argv[];
  /** For people, where nothing can be done for them */
  readonly advice?: string;
}

export interface NameServerPlace {
  /** Files are named after the user whose engine answers */
  readonly uid: number;
  readonly address: string;
  readonly port: number;
  /** The bridges, with the zones of their addresses backwards, such as `7.213.10.in-addr.arpa`: settings go with them */
  readonly links: readonly { readonly name: string; readonly zone: string }[];
}

/** Where name servers other than systemd-resolved are told, and which unit reads it. */
const dropIns = {
  'network-manager': { directory: 'etc/NetworkManager/dnsmasq.d', unit: 'NetworkManager.service' },
  dnsmasq: { directory: 'etc/dnsmasq.d', unit: 'dnsmasq.service' },
} as const;

/** Every file that a plan for a user may have, whoever answers for names now, with what makes its reader forget it. */
export function nameFiles(uid: number, root = '/'): { readonly path: string; readonly forget: Argv }[] {
  return Object.values(dropIns).map(({ directory, unit }) => ({
    path: join(root, directory, `banger-${uid}.conf`),
    forget: restart(unit),
  }));
}

function restart(unit: string): Argv {
  return ['systemctl', 'try-reload-or-restart', unit];
}

/** Decides how names of VMs come to be asked of our name server, and no others. Touches nothing. */
export function planNameResolution(resolver: HostResolver, place: NameServerPlace, root = '/'): NamePlan {
  const { uid, address, port, links } = place;
  const domains = [vmDomain, ...links.map(({ zone }) => zone)];
  const rules = domains.map((domain) => `server=/${domain}/${address}#${port}\n`).join('');
  switch (resolver) {
    case 'systemd-resolved':
      return {
        resolver,
        files: [],
        // Of each link: it counts while a VM is on it. A domain to route by is not searched for names without dots.
        apply: links.flatMap(({ name, zone }): Argv[] => [
          ['resolvectl', 'dns', name, `${address}:${port}`],
          ['resolvectl', 'domain', name, `~${vmDomain}`, `~${zone}`],
          ['resolvectl', 'default-route', name, 'no'],
        ]),
      };
    case 'network-manager':
    case 'dnsmasq': {
      const { directory, unit } = dropIns[resolver];
      const path = join(root, directory, `banger-${uid}.conf`);
      return { resolver, files: [{ path, text: rules }], apply: [restart(unit)] };
    }
    case 'other':
      return {
        resolver,
        files: [],
        apply: [],
        advice: `have your name server ask ${address} port ${port} for names below ${domains.map((domain) => `.${domain}`).join(', ')}. For dnsmasq: ${rules.trim().replaceAll('\n', ' and ')}. For unbound: a stub-zone with stub-addr: ${address}@${port}`,
      };
  }
}

/** Whether systemd-resolved asks us for names of VMs on a link; on any, without one. */
export async function isRoutedByResolved(exec: Exec, link?: string): Promise<boolean> {
  try {
    const argv: Argv = ['resolvectl', 'domain', ...(link === undefined ? [] : [link])];
    const { exitCode, stdout } = await exec(argv, { okExitCodes: [1] });
    return exitCode === 0 && /(?:^|\s)~vm(?:\s|$)/m.test(stdout.toString());
  } catch {
    return false; // There is no such program, or it does not answer.
  }
}

async function textOf(path: string): Promise<string> {
  return readFile(path, 'utf8').catch(() => '');
}
