import { readdir, readFile, readlink } from 'node:fs/promises';
import { join } from 'node:path';

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

/** How the host learns whom to ask for names of VMs, and how it forgets that. What it makes is ours alone. */
export interface NamePlan {
  readonly files: readonly { readonly path: string; readonly text: string }[];
  /** Programs to run once the files are there; the link must be there, too */
  readonly apply: readonly Argv[];
  /** Programs to run once the files are gone */
  readonly undo: readonly Argv[];
  /** For people, where nothing can be done for them */
  readonly advice?: string;
}

export interface NameServerPlace {
  /** The bridge: its settings go with it */
  readonly link: string;
  readonly address: string;
  readonly port: number;
  /** Without dots at their ends, such as `vm` and `77.10.in-addr.arpa` */
  readonly domains: readonly string[];
}

/** Decides how names below the domains come to be asked of our name server, and no others. Touches nothing. */
export function planNameResolution(resolver: HostResolver, place: NameServerPlace): NamePlan {
  const { link, address, port, domains } = place;
  const restart = (unit: string): Argv => ['systemctl', 'try-reload-or-restart', unit];
  const rules = domains.map((domain) => `server=/${domain}/${address}#${port}\n`).join('');
  switch (resolver) {
    case 'systemd-resolved':
      return {
        files: [],
        apply: [
          ['resolvectl', 'dns', link, `${address}:${port}`],
          // A domain to route by, which is not searched for names without dots.
          ['resolvectl', 'domain', link, ...domains.map((domain) => `~${domain}`)],
          ['resolvectl', 'default-route', link, 'no'],
        ],
        undo: [['resolvectl', 'revert', link]],
      };
    case 'network-manager':
      return {
        files: [{ path: '/etc/NetworkManager/dnsmasq.d/banger.conf', text: rules }],
        apply: [restart('NetworkManager.service')],
        undo: [restart('NetworkManager.service')],
      };
    case 'dnsmasq':
      return {
        files: [{ path: '/etc/dnsmasq.d/banger.conf', text: rules }],
        apply: [restart('dnsmasq.service')],
        undo: [restart('dnsmasq.service')],
      };
    case 'other':
      return {
        files: [],
        apply: [],
        undo: [],
        advice: `Have your name server ask ${address} port ${port} for names below ${domains.map((domain) => `.${domain}`).join(', ')}. For dnsmasq: ${rules.trim().replaceAll('\n', ' and ')}. For unbound: a stub-zone with stub-addr: ${address}@${port}`,
      };
  }
}

async function textOf(path: string): Promise<string> {
  return readFile(path, 'utf8').catch(() => '');
}
