import { BangerError } from '../../errors.ts';
import { accessCard, loopbackForward, userCard, type DriverName } from '../../host/drivers/driver.ts';
import { macOf } from '../../host/network/addresses.ts';
import { gatewayOf, heldTapName, tapName } from '../../host/network/plan.ts';
import { guestNameServers } from '../../host/network/routes.ts';
import { findFreePort } from '../../host/ports.ts';
import { getNetwork, isBridged } from '../../state/networks.ts';
import { getVm, type Vm } from '../../state/vms.ts';
import type { EngineContext } from '../context.ts';
import { checkEgress } from '../egress/match-egress.ts';
import { isHeld, reachOf } from '../egress/reach.ts';
import { guestSshPort } from '../guest-pool.ts';
import type { Capability, GuestSetup } from '../lifecycle/capabilities.ts';
import { claimPorts, movedPortNotes } from '../lifecycle/published-ports.ts';
import { isCarried } from '../ports/carried-ports.ts';
import {
  applyBridges,
  ensureNetwork,
  checkPreparedPlace,
  requireBridgeMeans,
  reserveAddress,
} from './bridges.ts';

/**
 * A VM's network. `user`: the VMM's own, which reaches out through the host and lets in what is published. `none`: the
 * same, cut off but for our own way in. Any other: a bridge, and the cut-off one beside it, as our way in and that of
 * published ports, which so outlive the engine and need no rights.
 */
export const network: Capability = {
  name: 'network',
  async checkRequest(context, { network: name, ports }) {
    refuseUnreachablePorts(name, ports.length);
    if (!isBridged(name)) return;
    const { signal } = new AbortController();
    await context.locks.reservation.run('name', signal, () => ensureNetwork(context, name));
  },
  async reserve(context, vm) {
    if (isBridged(vm.network)) await reserveAddress(context, vm);
  },
  async configureGuest(context, vm, { driver }) {
    const setup = isBridged(vm.network) ? await configureBridged(context, vm, driver) : configureUser(vm);
    const published = await claimPorts(context, vm);
    const led = published.filter((port) => !isCarried(vm, port));
    // Ours first: a user may publish the same port of the guest.
    const forwards = [loopbackForward(await findFreePort(), guestSshPort), ...led];
    const reach = reachOf(vm);
    return { ...setup, network: { ...setup.network, user: { forwards, reach } } };
  },
  async afterStart(context, vm, operation) {
    for (const note of movedPortNotes(getVm(context.db, vm.id).ports, vm.ports)) operation.note?.(note);
    await context.datagrams.match(vm);
  },
  afterStop(context, vm) {
    context.datagrams.drop(vm.id);
    return Promise.resolve();
  },
  async cleanUp(context, vm) {
    if (vm.address !== undefined) await applyBridges(context, { without: vm.id });
  },
};

/** Throws when ports are to lead into a VM that is to have no network. */
export function refuseUnreachablePorts(network: string, count: number): void {
  if (network !== 'none' || count === 0) return;
  throw new BangerError('invalid_argument', 'A VM without a network has no ports to publish', {
    hint: 'Leave out --publish, or --network none',
  });
}

function configureUser(vm: Vm): GuestSetup {
  return {
    conf: {
      ADDRESS: userCard.address,
      // Without a route, what cannot get out is told so at once. Name servers are for when that changes.
      GATEWAY: reachOf(vm) === 'none' ? '' : userCard.gateway,
      DNS: vm.network === 'none' ? '' : userCard.dns,
    },
  };
}

async function configureBridged(context: EngineContext, vm: Vm, driver: DriverName): Promise<GuestSetup> {
  const { owner, kind } = requireBridgeMeans(context);
  await checkPreparedPlace(context, vm);
  const { number, subnet, isShared } = getNetwork(context.db, vm.network);
  const address = vm.address ?? '';
  checkEgress(context, vm.network, vm.egress);
  await applyBridges(context, { needed: vm.network });
  // Whoever cannot change rules has taps of both kinds.
  const nameOfTap = kind === 'prepared' && isHeld(vm) ? heldTapName : tapName;
  const mac = macOf(address);
  const gateway = gatewayOf(subnet);
  // Its own network's first, which answers for its VMs and hands on the rest; without an engine the others do.
  const nameServers = [...(isShared ? [gateway] : []), ...(await guestNameServers())].slice(
    0,
    maxNameServers,
  );
  return {
    conf: {
      ADDRESS: `${address}/24`,
      MAC: mac,
      // Without a route, what cannot get out is told so at once. Name servers are for when that changes.
      GATEWAY: isHeld(vm) ? '' : gateway,
      DNS: nameServers.join(' '),
      // Firecracker's way in beside a bridge is no card of the guest's.
      ACCESS_ADDRESS: driver === 'qemu' ? accessCard.address : '',
      ACCESS_MAC: driver === 'qemu' ? accessCard.mac : '',
    },
    network: { tap: { tap: nameOfTap(owner, number, address), mac, address } },
  };
}

/** Resolvers look at no more (resolv.conf(5)). */
const maxNameServers = 3;
