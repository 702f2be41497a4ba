import { BangerError } from '../../errors.ts';
import type { PublishedPort } from '../../state/ports.ts';
import type { Vm } from '../../state/vms.ts';
import { refuseUnreachablePorts } from '../network/network.ts';
import { planPorts, type PortName, type PortOwners, type PortRequest } from './published-ports.ts';

const everyAddress = '0.0.0.0';

/** A port of the host, and, as far as they are said, from and to where it has to lead. */
export interface PortToRemove extends PortName {
  readonly bind?: string;
  readonly guestPort?: number;
}

export interface PortChange {
  readonly publish: readonly PortRequest[];
  readonly unpublish: readonly PortToRemove[];
  /** Whether what listens in the guest is published by itself from now on */
  readonly publishAll: boolean;
}

/** The ports that a VM is to have; undefined when that changes nothing. Throws for what cannot be, touching nothing. */
export async function planChangedPorts(
  vm: Vm,
  { publish, unpublish, publishAll }: PortChange,
  owned?: PortOwners['owned'],
): Promise<readonly PublishedPort[] | undefined> {
  const losesFollowed = !publishAll && vm.ports.some(({ followed }) => followed);
  if (publish.length === 0 && unpublish.length === 0 && !losesFollowed) return undefined;
  for (const one of unpublish) {
    const found = vm.ports.find((port) => isSame(one, port));
    if (found && isMeant(one, found)) continue;
    const other = found && `: it leads from ${found.bind} to ${found.guestPort}`;
    throw new BangerError(
      'not_found',
      `VM "${vm.name}" has not published port ${wordsOf(one)}${other ?? ''}`,
      { hint: `See its ports with: banger vm port list ${vm.name}` },
    );
  }
  refuseUnreachablePorts(vm.network, publish.length);
  const remaining = vm.ports.filter((port) => !unpublish.some((one) => isSame(one, port)));
  const kept = remaining.flatMap((port): PublishedPort[] => {
    if (!port.followed) return publish.some((asked) => isElsewhere(asked, port)) ? [] : [port];
    const asked = publish.find((one) => isTheFollowed(one, port));
    if (asked) return [staying(port, asked)];
    // One that is asked for goes before one that came by itself, which comes again by another.
    return publishAll && !publish.some((one) => isSame(one, port)) ? [port] : [];
  });
  // One that is published already as asked stays: its port is taken by ourselves.
  const added = publish.filter(
    (asked) =>
      !kept.some((port) => leadsTheSame(asked, port) && port.bind === asked.bind) &&
      !remaining.some((port) => isTheFollowed(asked, port)),
  );
  const isGivenUp = (port: PortName): boolean =>
    vm.state !== 'stopped' &&
    vm.ports.some((one) => isSame(port, one)) &&
    !kept.some((one) => isSame(port, one));
  const isKept = (port: PortName): boolean => kept.some((one) => isSame(one, port));
  return [...kept, ...(await planPorts(added, { isOwned: isKept, isGivenUp, owned }))];
}

function isSame(one: Pick<PortRequest, 'protocol' | 'hostPort'>, port: PortName): boolean {
  return one.protocol === port.protocol && one.hostPort === port.hostPort;
}

function isMeant({ bind, guestPort }: PortToRemove, port: PublishedPort): boolean {
  return (bind ?? port.bind) === port.bind && (guestPort ?? port.guestPort) === port.guestPort;
}

function wordsOf({ bind, hostPort, guestPort, protocol }: PortToRemove): string {
  const place = bind === undefined ? '' : `${bind}:`;
  return `${place}${hostPort}${guestPort === undefined ? '' : `:${guestPort}`}/${protocol}`;
}

function leadsTheSame(asked: PortRequest, port: PublishedPort): boolean {
  return isSame(asked, port) && asked.guestPort === port.guestPort;
}

/** Whether a port is to be had from everywhere that was had from one address, or the other way round. */
function isElsewhere(asked: PortRequest, port: PublishedPort): boolean {
  return (
    leadsTheSame(asked, port) && asked.bind !== port.bind && [asked.bind, port.bind].includes(everyAddress)
  );
}

/** Whether a port that came by itself is what is asked for. */
function isTheFollowed(asked: PortRequest, port: PublishedPort): boolean {
  return (
    port.followed === true &&
    asked.protocol === port.protocol &&
    asked.bind === port.bind &&
    asked.guestPort === port.guestPort &&
    (asked.hostPort === undefined || asked.hostPort === port.hostPort)
  );
}

/** One that no longer goes when nothing listens there. */
function staying({ protocol, bind, hostPort, guestPort }: PublishedPort, asked: PortRequest): PublishedPort {
  return { protocol, bind, hostPort, guestPort, chosen: asked.hostPort === undefined };
}
