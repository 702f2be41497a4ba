import { mkdir, readFile, readlink, rm, rmdir, writeFile } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { errnoOf } from '../../errors.ts';
import { namesIn } from '../files.ts';
import { bridgePrefix, heldTapPrefix, tapPrefix } from './plan.ts';
import type { Link } from './links.ts';

const defaultSwitch = '/proc/sys/net/ipv4/ip_forward';
const namespaceLink = '/proc/self/ns/net';

/** Where the kernel's switch is, and where we remember that it was us who turned it. Tests have their own. */
export interface Forwarding {
  readonly file?: string;
  /** Gone after a reboot, as the switch is off then */
  readonly markers: string;
  /** Of sysctl(8); the host's for its own switch, and none for another, unless given */
  readonly settings?: readonly string[];
}

/**
 * Makes the kernel forward packets. That it did not is written down first: whoever removes the last bridge turns it off
 * again, whichever banger that is.
 */
export async function ensureForwarding(forwarding: Forwarding): Promise<void> {
  const file = forwarding.file ?? defaultSwitch;
  if ((await readFile(file, 'utf8')).trim() === '1') return;
  await mkdir(forwarding.markers, { recursive: true, mode: 0o755 });
  await writeFile(await markerOf(forwarding), 'on\n', { mode: 0o644 });
  await writeFile(file, '1\n');
}

/** The same as `ensureForwarding`, as a line for sh, where no banger is to run. */
export function forwardingScript({ file = defaultSwitch, markers }: Forwarding): string {
  const marker = `${markers}/forwarding-$(readlink ${namespaceLink} | tr -dc 0-9)`;
  return `read -r on <${file}; [ "$on" = 1 ] || { mkdir -p ${markers} && echo on >${marker} && echo 1 >${file}; }`;
}

/** Turns forwarding off if we turned it on, and nobody needs it any more; `links` are those that are left. */
export async function releaseForwarding(forwarding: Forwarding, links: readonly Link[]): Promise<void> {
  if (links.some(({ name }) => name.startsWith(bridgePrefix))) return;
  const marker = await markerOf(forwarding);
  if (!(await isThere(marker))) return;
  // Who came after us found it on, and relies on that: it is theirs now.
  const isTheirs = links.some(isForwarder) || (await isSetForGood(forwarding));
  if (!isTheirs) await writeFile(forwarding.file ?? defaultSwitch, '0\n');
  await rm(marker, { force: true });
  // Unless it holds those of other namespaces.
  await rmdir(forwarding.markers).catch(() => undefined);
}

/** True when we turned it on and it was not turned off again. */
export async function hasTurnedOnForwarding(forwarding: Forwarding): Promise<boolean> {
  return isThere(await markerOf(forwarding));
}

/** Links of those who route packets for others: docker, podman, libvirt, LXC, VPNs and the like. */
function isForwarder({ name, kind = '', isUp }: Link): boolean {
  if (kind === 'bridge' || kind === 'wireguard' || namesOfForwarders.test(name)) return true;
  return isUp && kindsOfForwarders.has(kind) && !ours.some((prefix) => name.startsWith(prefix));
}

const ours = [tapPrefix, heldTapPrefix];
/** Tailscale's and OpenVPN's are among the first. A container's own card is a `veth`: of those only known names count. */
const kindsOfForwarders = new Set([
  'tun',
  'ipvlan',
  'macvlan',
  'vxlan',
  'geneve',
  'ipip',
  'gre',
  'sit',
  'xfrm',
  'vrf',
]);
const namesOfForwarders = /^(?:docker|br-|virbr|lxcbr|cni|podman|wg|cali|cilium|lxc|flannel)/;

/** Where sysctl(8) has what is set at boot; see sysctl.d(5). */
const defaultSettings = [
  ...['/etc', '/run', '/usr/local/lib', '/usr/lib', '/lib'].map((place) => `${place}/sysctl.d`),
  '/etc/sysctl.conf',
];

/** Who needs it wrote that down, perhaps while it was on already, which changed nothing. Any file counts. */
async function isSetForGood({ file: ownSwitch, settings }: Forwarding): Promise<boolean> {
  const places = settings ?? (ownSwitch === undefined ? defaultSettings : []);
  const files = await Promise.all(
    places.map(async (place) =>
      place.endsWith('.conf')
        ? [place]
        : (await namesIn(place)).filter((name) => name.endsWith('.conf')).map((name) => join(place, name)),
    ),
  );
  for (const file of files.flat()) {
    const text = await readFile(file, 'utf8').catch(() => '');
    if (/^[ \t]*-?net[./]ipv4[./](?:ip_forward|conf[./]all[./]forwarding)[ \t]*=[ \t]*1[ \t]*$/m.test(text))
      return true;
  }
  return false;
}

/** One for each network namespace: each has a switch of its own. */
async function markerOf({ markers }: Forwarding): Promise<string> {
  const namespace = /\d+/.exec(basename(await readlink(namespaceLink)))?.[0] ?? '0';
  return join(markers, `forwarding-${namespace}`);
}

async function isThere(path: string): Promise<boolean> {
  try {
    await readFile(path);
    return true;
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return false;
    throw error;
  }
}
