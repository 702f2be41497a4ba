import { BangerError } from '../../errors.ts';
import type { Exec } from '../exec.ts';
import {
  bridgeName,
  bridgePrefix,
  checkAlias,
  checkUid,
  gatewayOf,
  heldTapPrefix,
  tapPrefix,
  tapsOf,
  type BridgePlan,
  type HostNetwork,
  type NetworkOwner,
} from './plan.ts';
import { macOf } from './addresses.ts';

/** A network interface, as far as we care. */
export interface Link {
  readonly name: string;
  readonly alias?: string;
  /** `bridge`, `tun`, … */
  readonly kind?: string;
  readonly master?: string;
  readonly isUp: boolean;
  /** Of a tap: a VMM has opened it */
  readonly hasCarrier?: boolean;
  readonly isIsolated: boolean;
  /** Of a tap: who may open it, as a name where there is one */
  readonly user?: string;
  /** With their prefix */
  readonly addresses: readonly string[];
}

interface LinkJson {
  readonly ifname?: string;
  readonly ifalias?: string;
  readonly flags?: readonly string[];
  readonly master?: string;
  readonly linkinfo?: {
    readonly info_kind?: string;
    readonly info_data?: { readonly user?: string | number };
    readonly info_slave_data?: { readonly isolated?: boolean };
  };
  readonly addr_info?: readonly { readonly local?: string; readonly prefixlen?: number }[];
}

export async function readLinks(exec: Exec): Promise<Link[]> {
  const { stdout } = await exec(['ip', '-json', '-details', 'address', 'show']);
  const links = JSON.parse(stdout.toString('utf8') || '[]') as readonly LinkJson[];
  return links.map((link) => ({
    name: link.ifname ?? '',
    alias: link.ifalias,
    kind: link.linkinfo?.info_kind,
    master: link.master,
    isUp: link.flags?.includes('UP') ?? false,
    hasCarrier: link.flags?.includes('LOWER_UP') ?? false,
    isIsolated: link.linkinfo?.info_slave_data?.isolated ?? false,
    user: link.linkinfo?.info_data?.user?.toString(),
    addresses: (link.addr_info ?? []).map(({ local, prefixlen }) => `${local}/${prefixlen}`),
  }));
}

/** True for an interface that is named as this owner's are. Whether it is, its alias says. */
export function isNamedLikeOurs({ tag }: NetworkOwner, name: string): boolean {
  return [bridgePrefix, tapPrefix, heldTapPrefix].some((prefix) => name.startsWith(`${prefix}${tag}-`));
}

/**
 * Commands for `ip -batch` that give the host these bridges. Bridges are the first that there is, and the last that
 * goes: whoever finds none has nothing to clean up. Throws `already_exists` when one of our names is somebody else's.
 */
export function planBridges({ owner, bridges }: HostNetwork, links: readonly Link[]): string[] {
  return bridges.flatMap((bridge) => {
    const name = bridgeName(owner, bridge.number);
    const found = links.find((link) => link.name === name);
    if (found) requireOurs(owner, found, 'bridge');
    const gateway = `${gatewayOf(bridge.subnet)}/24`;
    return [
      ...(found
        ? []
        : [
            `link add name ${name} address ${macOf(gatewayOf(bridge.subnet))} type bridge forward_delay 0 stp_state 0 mcast_snooping 0`,
          ]),
      // One that is only half made is made whole.
      ...(found?.alias ? [] : [`link set dev ${name} alias ${checkAlias(owner.alias)}`]),
      ...(found?.isUp ? [] : [...withoutIpv6(name), `link set dev ${name} up`]),
      ...(found?.addresses.includes(gateway) ? [] : [`address replace ${gateway} dev ${name}`]),
    ];
  });
}

/** Commands that give the host the taps of these networks, and take away those that nobody needs. */
export function planTaps(network: HostNetwork, links: readonly Link[]): string[] {
  const { owner, bridges } = network;
  const made = bridges.flatMap((bridge) =>
    addressesWithTaps(bridge).flatMap((address) =>
      tapsOf(owner, bridge, address).flatMap((name) => {
        const found = links.find((link) => link.name === name);
        return planTap(owner, bridge, { name, found, user: bridge.tapUsers?.[address] });
      }),
    ),
  );
  return [...made, ...surplusTaps(network, links).map(({ name }) => `link delete dev ${name}`)];
}

/** Taps of ours that nobody needs. */
export function surplusTaps({ owner, bridges }: HostNetwork, links: readonly Link[]): Link[] {
  const wanted = new Set(
    bridges.flatMap((bridge) =>
      addressesWithTaps(bridge).flatMap((address) => tapsOf(owner, bridge, address)),
    ),
  );
  return links
    .filter(({ name }) => isNamedLikeOurs(owner, name) && !name.startsWith(bridgePrefix) && !wanted.has(name))
    .filter((link) => isOurs(owner, link));
}

function addressesWithTaps({ guests, spare }: BridgePlan): readonly string[] {
  return [...guests, ...spare];
}

/** Commands that take away bridges that nobody needs. */
export function planSurplusBridges({ owner, bridges }: HostNetwork, links: readonly Link[]): string[] {
  const wanted = new Set(bridges.map(({ number }) => bridgeName(owner, number)));
  return links
    .filter(({ name }) => name.startsWith(`${bridgePrefix}${owner.tag}-`) && !wanted.has(name))
    .filter((link) => isOurs(owner, link))
    .map(({ name }) => `link delete dev ${name}`);
}

function planTap(
  owner: NetworkOwner,
  bridge: BridgePlan,
  tap: { readonly name: string; readonly found: Link | undefined; readonly user: number | undefined },
): string[] {
  const { name, user } = tap;
  if (tap.found) requireOurs(owner, tap.found, 'tun');
  // To whom a tap is given cannot be changed afterwards; one that is open is in use as it is.
  const isWrong = tap.found && user !== undefined && tap.found.user !== String(user) && !tap.found.hasCarrier;
  const found = isWrong ? undefined : tap.found;
  const master = bridgeName(owner, bridge.number);
  const isIsolated = !bridge.isShared;
  if (found?.alias && found.master === master && found.isIsolated === isIsolated && found.isUp) return [];
  return [
    ...(isWrong ? [`link delete dev ${name}`] : []),
    // Without an owner, everybody who may open /dev/net/tun could have it.
    ...(found ? [] : [`tuntap add dev ${name} mode tap user ${checkUid(user ?? owner.uid)}`]),
    `link set dev ${name} alias ${checkAlias(owner.alias)} master ${master}`,
    `link set dev ${name} type bridge_slave isolated ${isIsolated ? 'on' : 'off'}`,
    ...withoutIpv6(name),
    `link set dev ${name} up`,
  ];
}

/** No address of its own that a guest could reach the host by. */
function withoutIpv6(name: string): string[] {
  return [`link set dev ${name} addrgenmode none`];
}

function isOurs(owner: NetworkOwner, { alias }: Link): boolean {
  return alias === undefined || alias === owner.alias;
}

function requireOurs(owner: NetworkOwner, link: Link, kind: 'bridge' | 'tun'): void {
  if (isOurs(owner, link) && link.kind === kind) return;
  throw new BangerError(
    'already_exists',
    `The network interface "${link.name}" is not ours, but has our name`,
    {
      hint: `Look at it, and remove it if nobody needs it: ip -details link show ${link.name}`,
    },
  );
}

/** Runs commands of `ip`, all by one process. */
export async function runIpBatch(exec: Exec, commands: readonly string[]): Promise<void> {
  if (commands.length === 0) return;
  await exec(['ip', '-batch', '-'], { input: commands.map((line) => `${line}\n`).join('') });
}
