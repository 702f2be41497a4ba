import { rm } from 'node:fs/promises';
import { forAll } from '../for-all.ts';
import type { Capability } from '../lifecycle/capabilities.ts';
import { checkSocketLink, removeSocketLink, type SocketLink } from '../../host/socket-link.ts';
import { vmPaths, type Layout } from '../../state/layout.ts';
import { refuseOwnedSocket, type PublishedSocket } from '../../state/sockets.ts';
import type { Vm } from '../../state/vms.ts';

/** Unix sockets of the host that lead into a VM while it runs. Their paths are its own as long as it exists. */
export const publishedSockets: Capability = {
  name: 'published sockets',
  async checkRequest(context, { sockets }) {
    for (const { hostPath } of sockets) {
      refuseOwnedSocket(context.db, hostPath, undefined);
      // There is no VM yet that what is there could belong to.
      await checkSocketLink({ path: hostPath, target: '' });
    }
  },
  // Before anything boots. Whoever is faster then is told of at the start's end.
  async configureGuest(context, vm) {
    for (const socket of vm.sockets) await checkSocketLink(linkOf(context.layout, vm.id, socket));
    return {};
  },
  async afterStart(context, vm) {
    await context.sockets.match(vm);
  },
  // Also when a VM is deleted: a directory that cannot be written to any more is no reason to keep the VM.
  async afterStop(context, vm) {
    try {
      await context.sockets.drop(vm.id);
    } finally {
      await removeLinks(context.layout, vm);
    }
  },
};

/** The user's path, and where we listen for it. Named after the VM's id, so that undo finds it untold. */
export function linkOf(layout: Layout, id: string, { hostPath }: PublishedSocket): SocketLink {
  return { path: hostPath, target: vmPaths(layout, id).publishedSocket(hostPath) };
}

async function removeLinks(layout: Layout, vm: Vm): Promise<void> {
  await forAll(vm.sockets, async (socket) => {
    const link = linkOf(layout, vm.id, socket);
    await rm(link.target, { force: true });
    await removeSocketLink(link);
  });
}
