import { BangerError } from '../../errors.ts';
import { applyHostNetwork, hasLinks } from '../../host/network/apply.ts';
import { readHostSetup, type HostSetup } from '../../host/setup/host-setup.ts';
import { readLinks } from '../../host/network/links.ts';
import {
  bridgeName,
  bridgePrefix,
  networkOwner,
  tapsOf,
  type BridgePlan,
  type NetworkOwner,
} from '../../host/network/plan.ts';
import { readOwnRights, vmUser } from '../../host/drivers/qemu-confinement.ts';
import { findClash, readRoutes } from '../../host/network/routes.ts';
import { chooseNumber, guestAddresses, subnetOf } from '../../host/network/subnets.ts';
import {
  defaultBridgeNetwork,
  findNetwork,
  getNetwork,
  insertNetwork,
  listAddresses,
  listNetworks,
  noNetwork,
  releaseAddress,
  takeAddress,
  type Network,
} from '../../state/networks.ts';
import { listVms, type Vm } from '../../state/vms.ts';
import type { EngineContext } from '../context.ts';
import { failpoint } from '../failpoints.ts';
import { preparedNetwork, requirePrepared } from './prepared-networks.ts';

/** By what right this engine has bridges: it makes them, or an administrator has made them for its user. */
export type BridgeMeans =
  | { readonly kind: 'made'; readonly owner: NetworkOwner }
  | { readonly kind: 'prepared'; readonly owner: NetworkOwner; readonly setup: HostSetup };

type MeansContext = Pick<EngineContext, 'layout' | 'hostNetwork'>;

/** Undefined where there can be no bridges. */
export function bridgeMeans({ layout, hostNetwork }: MeansContext): BridgeMeans | undefined {
  const uid = process.getuid!();
  if (hostNetwork.mayAdminister()) return { kind: 'made', owner: networkOwner(layout.stateDirectory, uid) };
  const setup = readHostSetup(uid, hostNetwork.setups);
  return setup && { kind: 'prepared', owner: setup.owner, setup };
}

/** Throws `host_unsupported` where there can be no bridges. */
export function requireBridgeMeans(context: MeansContext): BridgeMeans {
  const means = bridgeMeans(context);
  if (means) return means;
  throw new BangerError(
    'host_unsupported',
    'A network behind a bridge needs rights that this engine does not have (CAP_NET_ADMIN)',
    { hint: 'Set up the host for your user once: sudo banger host setup' },
  );
}

/**
 * Finds a network by name, and makes `bridge` when it is needed. Throws `not_found` for any other that is not there.
 * The caller holds the reservation lock.
 */
export async function ensureNetwork(context: EngineContext, name: string): Promise<Network> {
  const found = findNetwork(context.db, name);
  // Whoever has mistyped one that takes no rights has no use for being told of rights.
  if (!found && !bridgeMeans(context) && name !== defaultBridgeNetwork) throw noNetwork(context.db, name);
  const means = requireBridgeMeans(context);
  if (means.kind === 'prepared') return preparedNetwork(context.db, means.setup, name);
  if (found) return found;
  if (name !== defaultBridgeNetwork) throw noNetwork(context.db, name);
  return makeNetwork(context, { name, isShared: false });
}

/**
 * Makes the row of a network, with addresses that nobody on this host uses. Throws `already_exists` when the name is
 * taken. The caller holds the reservation lock.
 */
export async function makeNetwork(
  context: EngineContext,
  { name, isShared }: Pick<Network, 'name' | 'isShared'>,
): Promise<Network> {
  const { owner } = requireBridgeMeans(context);
  const routes = await readRoutes(context.exec);
  const taken = new Set(listNetworks(context.db).map(({ number }) => number));
  const number = chooseNumber(owner, (candidate) => taken.has(candidate), routes);
  if (number === undefined) {
    throw new BangerError(
      'host_unsupported',
      'This host has routes to all of 10.213.0.0/16, where networks of VMs are',
      {
        hint: 'See which with: ip route; or use the network that needs no addresses of the host: --network user',
      },
    );
  }
  return insertNetwork(context.db, {
    number,
    name,
    subnet: subnetOf(number),
    isShared,
    createdAt: new Date().toISOString(),
  });
}

/** Gives a VM its address, for as long as its row is there. The caller holds the reservation lock. */
export async function reserveAddress(context: EngineContext, vm: Vm): Promise<void> {
  const network = getNetwork(context.db, vm.network);
  const means = requireBridgeMeans(context);
  const addresses =
    means.kind === 'prepared'
      ? await unusedFirst(context, means.setup, network)
      : guestAddresses(network.subnet);
  try {
    takeAddress(context.db, vm.id, { network, addresses });
  } catch (error) {
    if (means.kind === 'made' || !(error instanceof BangerError)) throw error;
    const more = Math.min(addresses.length * 2, guestAddresses(network.subnet).length);
    if (more === addresses.length) throw error;
    throw new BangerError(error.code, error.message, {
      hint: `Delete a VM that you do not need, or have more taps made: sudo banger host setup --taps ${more}`,
      cause: error,
    });
  }
}

/** What was set up is for all of a user's state directories: VMs of another may be on some of the addresses. */
async function unusedFirst(context: EngineContext, setup: HostSetup, network: Network): Promise<string[]> {
  const addresses = setup.networks.find((one) => one.name === network.name)?.addresses ?? [];
  const isUsed = await readUsedTaps(context, setup.owner);
  const used = (address: string): boolean => isUsed(network.number, address);
  return [...addresses.filter((address) => !used(address)), ...addresses.filter(used)];
}

/** Tells whether a VMM has opened a tap of an address: this one, or its twin. */
async function readUsedTaps(
  context: EngineContext,
  owner: NetworkOwner,
): Promise<(number: number, address: string) => boolean> {
  const links = await readLinks(context.exec);
  const open = new Set(links.filter(({ hasCarrier }) => hasCarrier).map(({ name }) => name));
  return (number, address) =>
    tapsOf(owner, { number, hasHeldTaps: true }, address).some((tap) => open.has(tap));
}

/**
 * Throws unless a VM's network and tap are there and free, where an administrator has made them: `busy` when a VM that
 * this engine does not know runs with its address. Of the two taps of an address only one would be taken, and two guests
 * would have the same MAC and address.
 */
export async function checkPreparedPlace(context: EngineContext, vm: Vm): Promise<void> {
  const means = requireBridgeMeans(context);
  if (means.kind === 'made') return;
  requirePrepared(context.db, means.setup, vm);
  const { number } = getNetwork(context.db, vm.network);
  const { address = '' } = vm;
  if (!(await readUsedTaps(context, means.owner))(number, address)) return;
  throw new BangerError(
    'busy',
    `Address ${address} of network "${vm.network}" is in use by a VM of another state directory of yours`,
    {
      hint: `Stop that one, or make this one anew, which gives it a free address: banger vm delete ${vm.name}`,
    },
  );
}

/** Taps that wait for the next VMs of a network that has some. */
const spareTaps = 2;

/** The bridges that there have to be; `without` is a VM that is going. */
export function planBridges(context: Pick<EngineContext, 'db'>, without?: string): BridgePlan[] {
  const taken = listAddresses(context.db);
  const heldIds = new Set(
    listVms(context.db).flatMap(({ id, egress }) => (egress.kind === 'all' ? [] : [id])),
  );
  return listNetworks(context.db).flatMap((network) => {
    const all = taken.filter((one) => one.network === network.number);
    const guests = all.filter(({ vmId }) => vmId !== without).map(({ address }) => address);
    if (guests.length === 0) return [];
    const isTaken = new Set(all.map(({ address }) => address));
    const spare = guestAddresses(network.subnet).filter((address) => !isTaken.has(address));
    const { number, subnet, isShared } = network;
    const tapUsers = usersOfTaps(all);
    const held = all.filter(({ vmId }) => heldIds.has(vmId)).map(({ address }) => address);
    return [{ number, subnet, isShared, guests, held, spare: spare.slice(0, spareTaps), tapUsers }];
  });
}

/** A VMM that has become its VM's own user, and opens its tap itself, may open that one and no other. */
function usersOfTaps(
  all: readonly { readonly vmId: string; readonly address: string }[],
): Readonly<Record<string, number>> {
  const rights = readOwnRights();
  return Object.fromEntries(
    all.flatMap(({ vmId, address }) => {
      const user = vmUser(vmId, rights);
      return user === undefined ? [] : [[address, user] as const];
    }),
  );
}

/** For what bridges are made anew. */
export interface BridgeChange {
  /** A VM that is going: it loses its tap, and then its address */
  readonly without?: string;
  /** The network of a VM that is to start, and cannot without its bridge */
  readonly needed?: string;
}

/**
 * Makes the host's bridges, taps and rules what the database says; those that an administrator made are as they are.
 * Others of this engine wait meanwhile. Throws `host_unsupported` when the needed one cannot be made.
 */
export async function applyBridges(context: EngineContext, change: BridgeChange = {}): Promise<void> {
  const { without } = change;
  const means = bridgeMeans(context);
  await context.locks.taps.run('host', new AbortController().signal, async () => {
    if (means?.kind === 'made') await apply(context, means.owner, change);
    // Not before its tap is gone: whoever gets the address next must not meet it.
    if (without !== undefined) releaseAddress(context.db, without);
  });
}

async function apply(context: EngineContext, owner: NetworkOwner, change: BridgeChange): Promise<void> {
  const planned = planBridges(context, change.without);
  const bridges = planned.length > 0 ? await withoutClashes(context, owner, { planned, ...change }) : [];
  await applyHostNetwork(
    { owner, bridges },
    {
      exec: context.exec,
      forwarding: context.hostNetwork.forwarding,
      onStage: (stage) => failpoint(`network ${stage}`),
    },
  );
}

/**
 * Somebody may have come to use our addresses since they were chosen: a VPN, docker, another banger. No bridge is made
 * then that is not there yet. One that is there stays, with its VMs on it: their rules are to hold, and its way is the
 * more particular one.
 */
async function withoutClashes(
  { exec, db, log, handles }: EngineContext,
  owner: NetworkOwner,
  { planned, needed }: BridgeChange & { readonly planned: readonly BridgePlan[] },
): Promise<BridgePlan[]> {
  const routes = await readRoutes(exec);
  const own = `${bridgePrefix}${owner.tag}-`;
  const others = routes.filter(({ device }) => !device.startsWith(own));
  const isUsed = (number: number): boolean =>
    listAddresses(db).some(({ network, vmId }) => network === number && handles.get(vmId) !== undefined);
  const neededNumber = needed === undefined ? undefined : findNetwork(db, needed)?.number;
  return planned.filter(({ number, subnet }) => {
    const clash = findClash(subnet, others);
    if (!clash) return true;
    const what = `The addresses ${subnet} of a network of VMs are used by "${clash.device}" (${clash.subnet})`;
    const isThere = routes.some(({ device }) => device === bridgeName(owner, number)) || isUsed(number);
    if (!isThere && number === neededNumber) {
      throw new BangerError('host_unsupported', what, {
        hint: `Take that down, or delete the VMs of the network: banger network list`,
      });
    }
    log('warn', `${what}: its bridge ${isThere ? 'stays, beside that' : 'is not made'}`);
    return isThere;
  });
}

/** Makes it so when an engine starts, if there is anything to do: no program is started where there is not. */
export async function reconcileBridges(context: EngineContext): Promise<void> {
  const means = bridgeMeans(context);
  if (means?.kind !== 'made') return;
  const isUsed = listAddresses(context.db).some(({ vmId }) => context.handles.get(vmId));
  if (isUsed || (await hasLinks(means.owner))) await applyBridges(context);
}
