import { BangerError } from '../../errors.ts';
import { relayProtocol } from '../../host/guest-protocol.ts';
import { checkSocketLink } from '../../host/socket-link.ts';
import { refuseOwnedSocket, type PublishedSocket } from '../../state/sockets.ts';
import type { Vm } from '../../state/vms.ts';
import type { EngineContext } from '../context.ts';
import { linkOf } from './published-sockets.ts';

export interface SocketChange {
  readonly publishSockets?: readonly PublishedSocket[];
  /** Paths of the host */
  readonly unpublishSockets?: readonly string[];
}

/** The sockets that a VM is to have; undefined when nothing is asked for. Throws for what cannot be, touching nothing. */
export async function planSockets(
  context: EngineContext,
  vm: Vm,
  { publishSockets = [], unpublishSockets = [] }: SocketChange,
): Promise<readonly PublishedSocket[] | undefined> {
  if (publishSockets.length === 0 && unpublishSockets.length === 0) return undefined;
  const unknown = unpublishSockets.find((path) => !vm.sockets.some(({ hostPath }) => hostPath === path));
  if (unknown !== undefined)
    throw new BangerError('not_found', `VM "${vm.name}" has not published socket "${unknown}"`, {
      hint: `See its ports and sockets with: banger vm port list ${vm.name}`,
    });
  const kept = vm.sockets.filter(({ hostPath }) => !unpublishSockets.includes(hostPath));
  // One that is published already as asked stays.
  const added = publishSockets.filter(
    (asked) => !kept.some((one) => one.hostPath === asked.hostPath && one.guestPath === asked.guestPath),
  );
  const protocol = context.handles.get(vm.id)?.guestProtocol;
  if (added.length > 0 && protocol !== undefined && protocol < relayProtocol)
    throw new BangerError(
      'invalid_state',
      `VM "${vm.name}" was started by an older banger, without a relay to Unix sockets`,
      { hint: `Give it this one's guest part with: banger vm restart ${vm.name}` },
    );
  for (const socket of added) {
    const other = [...kept, ...added.filter((one) => one !== socket)].find(
      ({ hostPath }) => hostPath === socket.hostPath,
    );
    if (other)
      throw new BangerError(
        'invalid_argument',
        `Socket "${other.hostPath}" cannot lead to both "${other.guestPath}" and "${socket.guestPath}"`,
        { hint: 'Choose another path of this host for one of them' },
      );
    refuseOwnedSocket(context.db, socket.hostPath, vm.id);
    await checkSocketLink(linkOf(context.layout, vm.id, socket));
  }
  return [...kept, ...added];
}
