import { readdir, readFile, readlink, stat } from 'node:fs/promises';
import { join } from 'node:path';
import type { Exec } from './exec.ts';

/** What programs of this host ask for names. */
export type HostResolver = 'systemd-resolved' | 'network-manager' | 'dnsmasq' | 'other';

/** Finds out who answers for names here; `root` is where the files are that tell it. */
export async function findHostResolver(exec: Exec, root = '/'): Promise<HostResolver> {
  const target = await readlink(join(root, 'etc/resolv.conf')).catch(() => '');
  const resolvConf = await textOf(join(root, 'etc/resolv.conf'));
  const servers = [...resolvConf.matchAll(/^\s*nameserver\s+(\S+)/gm)].map(([, server]) => server!);
  // Its other file, resolv.conf, names the servers that it asks: programs go past it.
  const isStub = target.endsWith('systemd/resolve/stub-resolv.conf');
  if (isStub || servers.some((one) => /^127\.0\.0\.5[34]$/.test(one))) return 'systemd-resolved';
  if (!servers.some((one) => one.startsWith('127.') || one === '::1')) return 'other';
  const directory = join(root, 'etc/NetworkManager');
  const files = await readdir(join(directory, 'conf.d')).catch(() => []);
  const configs = await Promise.all(
    ['NetworkManager.conf', ...files.map((file) => join('conf.d', file))].map((file) =>
      textOf(join(directory, file)),
    ),
  );
  if (configs.some((text) => /^\s*dns\s*=\s*dnsmasq\s*$/m.test(text))) return 'network-manager';
  const hasDirectory =
    (await readdir(join(root, dropIns.dnsmasq.directory)).catch(() => undefined)) !== undefined;
  // Installed, it may leave the loopback to another, such as unbound.
  return hasDirectory && (await isActive(exec, dropIns.dnsmasq.unit)) ? 'dnsmasq' : 'other';
}

async function isActive(exec: Exec, unit: string): Promise<boolean> {
  try {
    // 3: it is not; 4: there is no such unit
    const { exitCode } = await exec(['systemctl', 'is-active', '--quiet', unit], { okExitCodes: [1, 3, 4] });
    return exitCode === 0;
  } catch {
    return false; // There is no systemd, or it does not answer: nothing could be told to its unit.
  }
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

/** Where name servers other than systemd-resolved are told, and which unit reads it when it is asked how. */
const dropIns = {
  'network-manager': {
    directory: 'etc/NetworkManager/dnsmasq.d',
    unit: 'NetworkManager.service',
    // It starts its dnsmasq anew by that, and nothing else.
    verb: 'try-reload-or-restart',
  },
  // Reloading it has it read its hosts again, and no configuration.
  dnsmasq: { directory: 'etc/dnsmasq.d', unit: 'dnsmasq.service', verb: 'try-restart' },
} as const;

/** Every file that a plan for a user may have, whoever answers for names now, with what makes its reader forget it. */
export function nameFiles(uid: number, root = '/'): { readonly path: string; readonly forget: Argv }[] {
  return (['network-manager', 'dnsmasq'] as const).map((resolver) => ({
    path: nameFile(resolver, uid, root),
    forget: readAgain(resolver),
  }));
}

function nameFile(resolver: keyof typeof dropIns, uid: number, root: string): string {
  return join(root, dropIns[resolver].directory, `banger-${uid}.conf`);
}

function readAgain(resolver: keyof typeof dropIns): Argv {
  return ['systemctl', dropIns[resolver].verb, dropIns[resolver].unit];
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
          // The server last: at no time is it asked for anything else.
          ['resolvectl', 'default-route', name, 'no'],
          ['resolvectl', 'domain', name, `~${vmDomain}`, `~${zone}`],
          ['resolvectl', 'dns', name, `${address}:${port}`],
        ]),
      };
    case 'network-manager':
    case 'dnsmasq': {
      const path = nameFile(resolver, uid, root);
      return { resolver, files: [{ path, text: rules }], apply: [readAgain(resolver)] };
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

/**
 * Whether who answers for names was told to ask us for those of VMs: on all these links, or, without any, on one.
 * Undefined when it is somebody who cannot be told.
 */
export async function isToldOfNames(
  exec: Exec,
  { resolver, uid, links, root = '/' }: ToldOf,
): Promise<boolean | undefined> {
  if (resolver === 'other') return undefined;
  if (resolver !== 'systemd-resolved')
    return stat(nameFile(resolver, uid, root)).then(
      () => true,
      () => false,
    );
  if (links.length === 0) return isRoutedByResolved(exec);
  for (const link of links) if (!(await isRoutedByResolved(exec, link))) return false;
  return true;
}

export interface ToldOf {
  readonly resolver: HostResolver;
  readonly uid: number;
  /** Bridges of a setup */
  readonly links: readonly string[];
  readonly root?: string;
}

async function isRoutedByResolved(exec: Exec, link?: string): Promise<boolean> {
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
