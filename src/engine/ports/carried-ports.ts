import { datagramProtocol, oldestGuestProtocol } from '../../host/guest-protocol.ts';
import type { PublishedPort } from '../../state/ports.ts';
import type { Vm } from '../../state/vms.ts';
import type { EngineContext } from '../context.ts';
import { reachOf } from '../egress/reach.ts';

/**
 * True for a port whose datagrams we carry ourselves: a VMM's network that lets nothing out lets no answers out either.
 * It has no such trouble with TCP.
 */
export function isCarried(
  vm: Pick<Vm, 'network' | 'egress'>,
  { protocol }: Pick<PublishedPort, 'protocol'>,
): boolean {
  return protocol === 'udp' && reachOf(vm) === 'none';
}

/** Ports of a running VM that we carry. None of a guest that was started by a banger which could not. */
export function carriedPorts(context: Pick<EngineContext, 'handles'>, vm: Vm): readonly PublishedPort[] {
  const { guestProtocol = oldestGuestProtocol } = context.handles.get(vm.id) ?? {};
  return guestProtocol < datagramProtocol ? [] : vm.ports.filter((port) => isCarried(vm, port));
}

/** All others, which its VMM leads into the guest. */
export function ledPorts(context: Pick<EngineContext, 'handles'>, vm: Vm): readonly PublishedPort[] {
  const carried = carriedPorts(context, vm);
  return vm.ports.filter((port) => !carried.includes(port));
}
