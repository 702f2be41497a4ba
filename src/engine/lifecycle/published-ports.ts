import { BangerError } from '../../errors.ts';
import { isSameHostPort, type PortForward } from '../../host/drivers/driver.ts';
import { checkPort, findFreePort } from '../../host/ports.ts';
import { ownedPort, type PublishedPort } from '../../state/ports.ts';
import { changeVm, type Vm } from '../../state/vms.ts';
import type { EngineContext } from '../context.ts';
import type { PortRequest as PortForText } from '../rpc/port-text.ts';
import { guestSshPort } from '../guest-pool.ts';
import { ledPorts } from '../ports/carried-ports.ts';
import { vmmControl } from './guest-activity.ts';

/** A port to publish. */
export interface PortRequest extends PortForText {
  /** The host's port is a wish: another one will do when it is taken */
  readonly prefersHostPort?: boolean;
}

/** A port of the host, whatever the address. */
export interface PortName {
  readonly protocol: 'tcp' | 'udp';
  readonly hostPort: number;
}

/** Promised ports are few: who meets ten of them in a row is told. */
const chooseAttempts = 10;

export interface PortOwners {
  /** Knows ports of VMs */
  readonly isOwned?: (port: PortName) => boolean;
  /** Knows those that are taken by what goes when these come */
  readonly isGivenUp?: (port: PortName) => boolean;
  /** What there is to say of one that is taken, if a VM has it */
  readonly owned?: (port: PublishedPort) => BangerError | undefined;
}

/** Gives each a port of the host. Throws when one is asked for that is taken. */
export async function planPorts(
  requests: readonly PortRequest[],
  { isOwned = () => false, isGivenUp = () => false, owned = () => undefined }: PortOwners = {},
): Promise<PublishedPort[]> {
  const planned: PublishedPort[] = [];
  const isOurs = (port: PortName): boolean =>
    planned.some((one) => one.protocol === port.protocol && one.hostPort === port.hostPort);
  for (const { protocol, bind, guestPort, hostPort, prefersHostPort = false } of requests) {
    const place = { protocol, bind };
    if (hostPort === undefined || prefersHostPort) {
      const wanted = hostPort !== undefined && { protocol, hostPort };
      const isFree =
        wanted && !isOurs(wanted) && !isOwned(wanted) && (await canListen({ ...place, port: hostPort }));
      planned.push({
        ...place,
        guestPort,
        hostPort: isFree ? hostPort : await chooseFreePort(place, (port) => isOurs(port) || isOwned(port)),
        chosen: true,
        ...(hostPort !== undefined && { wished: hostPort }),
      });
    } else {
      const port = { ...place, hostPort, guestPort, chosen: false };
      if (!isGivenUp({ protocol, hostPort })) {
        await checkPort({ ...place, port: hostPort }).catch((error: unknown) => {
          throw owned(port) ?? error;
        });
      }
      planned.push(port);
    }
  }
  return planned;
}

/**
 * What to say of ports that are not where they are looked for, which is where they were wished, or were before: somebody
 * else's program is found there.
 */
export function movedPortNotes(
  ports: readonly PublishedPort[],
  before: readonly PublishedPort[] = [],
): readonly string[] {
  const isIn = (all: readonly PublishedPort[], port: PublishedPort): boolean =>
    all.some((one) => isSameHostPort(one, port));
  return ports.flatMap((port) => {
    const { hostPort, guestPort, bind, wished } = port;
    const left = before.find((one) => one.guestPort === guestPort && !one.followed && !isIn(ports, one));
    const sought = wished ?? (isIn(before, port) ? hostPort : left?.hostPort) ?? hostPort;
    if (sought === hostPort) return [];
    return [`Port ${sought} is taken here: port ${guestPort} of the VM is at ${bind}:${hostPort}`];
  });
}

/** A free port may be promised all the same, to a VM that does not run. */
async function chooseFreePort(
  place: Parameters<typeof findFreePort>[0] & object,
  isPromised: (port: PortName) => boolean,
): Promise<number> {
  for (let attempt = 1; ; attempt++) {
    const hostPort = await findFreePort(place);
    if (attempt === chooseAttempts || !isPromised({ protocol: place.protocol, hostPort })) return hostPort;
  }
}

async function canListen(place: Parameters<typeof checkPort>[0]): Promise<boolean> {
  try {
    await checkPort(place);
    return true;
  } catch (error) {
    if (error instanceof BangerError) return false;
    throw error;
  }
}

/**
 * Makes sure, before a VM starts, that nobody else listens on its ports. One that was ours to choose is replaced
 * by another, first by the one that was wished; one that the user chose and that is taken is an error (`busy`).
 */
export async function claimPorts(context: EngineContext, vm: Vm): Promise<readonly PublishedPort[]> {
  const claimed: PublishedPort[] = [];
  // Those that followed what listened then are no promise for now.
  for (const port of vm.ports.filter(({ followed }) => !followed)) {
    if (await isWishFree(context, port)) {
      claimed.push({ ...port, hostPort: port.wished! });
      continue;
    }
    try {
      await checkPort({ ...port, port: port.hostPort });
      claimed.push(port);
    } catch (error) {
      const isTaken = error instanceof BangerError && error.code === 'busy';
      if (!isTaken || !port.chosen) throw error;
      const hostPort = await chooseFreePort(port, (other) => isAnyones(context, port, other));
      claimed.push({ ...port, hostPort });
    }
  }
  const isSame =
    claimed.length === vm.ports.length &&
    claimed.every((port, index) => port.hostPort === vm.ports[index]?.hostPort);
  if (!isSame) changeVm(context.db, vm.id, { ports: claimed });
  return claimed;
}

/** Whether a port that is elsewhere can be where it was wished. */
async function isWishFree(context: EngineContext, port: PublishedPort): Promise<boolean> {
  const { protocol, wished } = port;
  if (wished === undefined || wished === port.hostPort) return false;
  if (isAnyones(context, port, { protocol, hostPort: wished })) return false;
  return canListen({ ...port, port: wished });
}

function isAnyones({ db }: EngineContext, port: PublishedPort, { hostPort }: PortName): boolean {
  return ownedPort(db, { ...port, hostPort }) !== undefined;
}

/**
 * Makes the ports that lead into a running VM those that it shall have. Throws `busy` when one is taken, and
 * `command_failed` when its VMM does not answer.
 */
export async function matchForwards(context: EngineContext, vm: Vm): Promise<void> {
  const control = await vmmControl(context, vm);
  const current = (await control.forwards()).filter((port) => !isOurSsh(context, vm, port));
  const led = ledPorts(context, vm);
  const isIn = (ports: readonly PortForward[], port: PortForward): boolean =>
    ports.some((one) => isSameHostPort(one, port) && one.guestPort === port.guestPort);
  for (const port of current) if (!isIn(led, port)) await control.removeForward(port);
  // Between them: a port goes from one to the other when what the guest reaches changes.
  await context.datagrams.match(vm);
  for (const port of led) if (!isIn(current, port)) await control.addForward(port);
}

/** Takes a change back. A VMM that is away is told what its row says when it is back; see vmm-watch.ts. */
export async function restoreForwards(context: EngineContext, vm: Vm): Promise<void> {
  const control = await context.controls.get(vm.id)?.catch(() => undefined);
  if (control) await matchForwards(context, vm);
}

function isOurSsh(context: EngineContext, vm: Vm, port: PortForward): boolean {
  return port.guestPort === guestSshPort && port.hostPort === context.handles.get(vm.id)?.sshPort;
}
