import { BangerError } from '../../errors.ts';
import { accessCard, userCard } from '../../host/drivers/driver.ts';
import type { PublishedPort } from '../../state/ports.ts';
import { changeVm, findVm, listVms, type Vm } from '../../state/vms.ts';
import type { EngineContext } from '../context.ts';
import { proxyPort } from '../egress/guest-egress.ts';
import { guestSshPort } from '../guest-pool.ts';
import { matchForwards, planPorts, restoreForwards, type PortRequest } from '../lifecycle/published-ports.ts';
import { parseListeners } from '../lifecycle/vm-ports.ts';

/** A guest decides how much listens in it. */
const maxFollowed = 64;
/** Below this, ports of the host are root's: 80 becomes 8080. */
const firstOpenPort = 1024;
const privilegedOffset = 8000;
/** Where published ports lead; what listens on the guest's loopback only is not reached there. */
const reachedAddresses = [
  '0.0.0.0',
  '::',
  ...[userCard, accessCard].map(({ address }) => address.split('/')[0]!),
];
const ours = new Set([guestSshPort, proxyPort]);

/** TCP ports of a guest that can be published, of what its tables of sockets say. */
export function publishablePorts(tables: string): number[] {
  const ports = parseListeners(tables)
    .filter(({ protocol, address }) => protocol === 'tcp' && reachedAddresses.includes(address))
    .map(({ port }) => port)
    .filter((port) => !ours.has(port));
  return [...new Set(ports)].sort((one, other) => one - other).slice(0, maxFollowed);
}

/**
 * Makes the ports that follow a guest's listeners those that listen there now. What is published by hand stays, and is
 * not published twice. Each gets its own number on the host if that is free. The VM's lock is taken.
 */
export async function followPorts(
  context: EngineContext,
  id: string,
  listening: readonly number[],
): Promise<void> {
  await context.locks.vm.run(id, new AbortController().signal, async () => {
    const vm = findVm(context.db, id);
    if (!vm?.publishesAll || vm.state !== 'running') return;
    const ports = await planFollowed(context, vm, listening);
    if (ports === undefined) return;
    const changed = changeVm(context.db, id, { ports });
    try {
      await matchForwards(context, changed);
    } catch (error) {
      // Somebody was faster. The others are published at the next change, when this one is given another number.
      if (!(error instanceof BangerError)) throw error;
      context.log('warn', `a port could not be published: ${error.message}`, { vm: id });
      changeVm(context.db, id, { ports: vm.ports });
      await restoreForwards(context, vm);
    }
  });
}

async function planFollowed(
  context: EngineContext,
  vm: Vm,
  listening: readonly number[],
): Promise<readonly PublishedPort[] | undefined> {
  const byHand = vm.ports.filter(({ followed }) => !followed);
  const led = new Set(byHand.filter(({ protocol }) => protocol === 'tcp').map(({ guestPort }) => guestPort));
  const wanted = listening.filter((port) => !led.has(port));
  const followed = vm.ports.filter((port) => port.followed);
  const kept = followed.filter(({ guestPort }) => wanted.includes(guestPort));
  const missing = wanted.filter((port) => !kept.some(({ guestPort }) => guestPort === port));
  if (missing.length === 0 && kept.length === followed.length) return undefined;
  const isOwned = ({ hostPort }: { readonly hostPort: number }): boolean =>
    listVms(context.db).some(({ ports }) =>
      ports.some((port) => port.protocol === 'tcp' && port.hostPort === hostPort),
    );
  const added = await planPorts(missing.map(requestOf), { isOwned });
  return [...byHand, ...kept, ...added.map((port) => ({ ...port, followed: true }))];
}

function requestOf(guestPort: number): PortRequest {
  const hostPort = guestPort < firstOpenPort ? guestPort + privilegedOffset : guestPort;
  return { protocol: 'tcp', bind: '127.0.0.1', guestPort, hostPort, prefersHostPort: true };
}
