import { join } from 'node:path';
import { BangerError } from '../../errors.ts';
import { forwardingScript } from '../network/forwarding.ts';
import { planBridges, planTaps } from '../network/links.ts';
import { planNameResolution, type HostResolver, type NamePlan } from '../name-resolution.ts';
import { bridgeName, networkOwner, reservedNetworkNames, type HostNetwork } from '../network/plan.ts';
import type { Route } from '../network/routes.ts';
import { ruleset } from '../network/ruleset.ts';
import { shellQuote } from '../shell-quote.ts';
import { chooseNumber, guestAddresses, subnetOf } from '../network/subnets.ts';
import {
  freeNamePort,
  hostSetupFile,
  namePortOf,
  type HostSetup,
  type PreparedNetwork,
} from './host-setup.ts';
import type { SetupPlaces, SetupUser } from './places.ts';

/** What is asked for, beyond the network "bridge", which there always is. */
export interface SetupRequest {
  readonly user: SetupUser;
  /** Of each network: as many VMs can be on it. Absent: as many as there are already */
  readonly taps?: number;
  /** Names of networks whose VMs reach each other */
  readonly shared: readonly string[];
}

export interface PlannedFile {
  readonly path: string;
  readonly content: string;
}

/** What a setup does, before it does anything. */
export interface SetupPlan {
  readonly setup: HostSetup;
  readonly network: HostNetwork;
  /** In the order in which they are written */
  readonly files: readonly PlannedFile[];
  readonly unit: string;
  /** By which programs of the host find VMs by name */
  readonly names: NamePlan;
}

const defaultTaps = 8;

/** Networks keep their addresses when a host is set up again: VMs have them. */
export function planSetup(
  request: SetupRequest,
  host: {
    readonly before: HostSetup | undefined;
    /** Those of other users */
    readonly others: readonly HostSetup[];
    readonly routes: readonly Route[];
    readonly places: SetupPlaces;
    readonly resolver: HostResolver;
  },
): SetupPlan {
  const { user, taps } = request;
  const owner = networkOwner(`setup for user ${user.uid}`, user.uid);
  const networks: PreparedNetwork[] = [];
  const most = Math.max(defaultTaps, ...(host.before?.networks ?? []).map((one) => one.addresses.length));
  for (const [name, isShared] of wantedNetworks(request, host.before)) {
    const known = host.before?.networks.find((one) => one.name === name);
    const isTaken = (number: number): boolean =>
      [...networks, ...(host.before?.networks ?? [])].some((one) => one.number === number);
    const number = known?.number ?? chooseNumber(owner, isTaken, host.routes);
    if (number === undefined) {
      throw new BangerError(
        'host_unsupported',
        'This host has routes to all of 10.213.0.0/16, where networks of VMs are',
        {
          hint: 'See which with: ip route',
        },
      );
    }
    const subnet = subnetOf(number);
    const count = taps ?? known?.addresses.length ?? most;
    networks.push({ name, number, subnet, isShared, addresses: guestAddresses(subnet).slice(0, count) });
  }
  const namePort = host.before ? namePortOf(host.before) : freeNamePort(host.others);
  const setup: HostSetup = { version: 1, user: user.name, owner, networks, hasHeldTaps: true, namePort };
  const network = hostNetworkOf(setup);
  const names = planNames(setup, host.resolver, host.places.systemRoot);
  const files = planFiles({ setup, network, names }, host.places);
  return { setup, network, files, unit: unitName(user.uid), names };
}

/** By the name server of the user's engine, where it listens unless their configuration says otherwise. */
export function planNames(setup: HostSetup, resolver: HostResolver, root: string): NamePlan {
  const { owner, networks } = setup;
  const links = networks.map(({ number, subnet }) => ({
    name: bridgeName(owner, number),
    zone: `${subnet.split('.').slice(0, 3).reverse().join('.')}.in-addr.arpa`,
  }));
  return planNameResolution(
    resolver,
    { uid: owner.uid, address: '127.0.0.1', port: namePortOf(setup), links },
    root,
  );
}

/** Those that there are already stay, unless the whole setup is taken down. */
function wantedNetworks(
  { shared }: SetupRequest,
  before: HostSetup | undefined,
): ReadonlyMap<string, boolean> {
  const reserved = shared.find((name) => reservedNetworkNames.includes(name));
  if (reserved !== undefined) {
    throw new BangerError(
      'invalid_argument',
      `A network whose VMs reach each other cannot be "${reserved}"`,
      {
        hint: 'Choose another name, such as: sudo banger host setup --network lab',
      },
    );
  }
  const names = [...(before?.networks ?? []).map(({ name }) => name), ...shared];
  // A setup by an older banger may have networks of such names, which no VM can be on.
  const fit = names.filter((name) => !reservedNetworkNames.includes(name));
  return new Map([['bridge', false], ...fit.map((name): [string, boolean] => [name, true])]);
}

export function hostNetworkOf({ owner, networks, hasHeldTaps }: HostSetup): HostNetwork {
  return {
    owner,
    bridges: networks.map(({ number, subnet, isShared, addresses }) => ({
      number,
      subnet,
      isShared,
      guests: addresses,
      spare: [],
      hasHeldTaps,
    })),
  };
}

/** Names of the bridges that a setup has made. */
export function bridgesOf({ owner, networks }: HostSetup): string[] {
  return networks.map(({ number }) => bridgeName(owner, number));
}

export function unitName(uid: number): string {
  return `banger-network-${uid}.service`;
}

/** Paths of the files that a setup consists of. */
export function setupFiles(uid: number, { configDirectory, unitDirectory }: SetupPlaces) {
  return {
    setup: hostSetupFile(uid, configDirectory),
    rules: join(configDirectory, `network-${uid}.nft`),
    links: join(configDirectory, `network-${uid}.ip`),
    unit: join(unitDirectory, unitName(uid)),
  };
}

function planFiles(
  { setup, network, names }: Pick<SetupPlan, 'setup' | 'network' | 'names'>,
  places: SetupPlaces,
): PlannedFile[] {
  const paths = setupFiles(setup.owner.uid, places);
  const links = [...planBridges(network, []), ...planTaps(network, [])];
  return [
    { path: paths.rules, content: ruleset(network) },
    { path: paths.links, content: links.map((line) => `${line}\n`).join('') },
    ...(places.hasSystemd ? [{ path: paths.unit, content: unitText(setup, { paths, names, places }) }] : []),
    // Last: an engine takes it for a sign that all is there.
    { path: paths.setup, content: `${JSON.stringify(setup, undefined, 2)}\n` },
  ];
}

interface UnitInput {
  readonly paths: ReturnType<typeof setupFiles>;
  readonly names: NamePlan;
  readonly places: SetupPlaces;
}

/**
 * Runs programs of the system only: what root runs at boot must not be a file that a user can write to, as their banger
 * may be. systemd finds the programs in its own PATH, whatever the distribution.
 */
function unitText({ user }: HostSetup, { paths, names, places }: UnitInput): string {
  // Settings of links are gone after a reboot. A name server that reads files has them already.
  const told = names.resolver === 'systemd-resolved' ? names.apply : [];
  const resolver = told.map((argv) => `ExecStart=-${argv.join(' ')}\n`).join('');
  // In a unit "$" names a variable of systemd's.
  const forward = shellQuote([forwardingScript(places.forwarding)]).replaceAll('$', '$$$$');
  return `[Unit]
Description=Network for the VMs of ${user} (banger)
After=network-pre.target nftables.service ufw.service firewalld.service systemd-resolved.service
Wants=network-pre.target
# A restart of one of these flushes the rules of all.
PartOf=nftables.service ufw.service firewalld.service

[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=nft -f ${paths.rules}
ExecStart=-ip -force -batch ${paths.links}
ExecStart=sh -c ${forward}
${resolver}
[Install]
WantedBy=multi-user.target
`;
}
