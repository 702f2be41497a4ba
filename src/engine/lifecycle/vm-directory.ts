import { rm } from 'node:fs/promises';
import { removeJailOf } from '../../host/drivers/firecracker/remove-jail.ts';
import { vmPaths, type Layout } from '../../state/layout.ts';
import type { Vm } from '../../state/vms.ts';
import { vmmSockets } from '../vmm-drivers.ts';

/** Removes the directory of a VM whose VMM has gone, with what its VMM had beside it: sockets and a jail. */
export async function removeVmDirectory(layout: Layout, vm: Pick<Vm, 'id' | 'controlSocket'>): Promise<void> {
  const { vmmLog, directory } = vmPaths(layout, vm.id);
  for (const socket of vmmSockets(vm)) await rm(socket, { force: true });
  await removeJailOf({ id: vm.id, vmmLog });
  // Named after the VM's id and made by us: nobody keeps anything of their own here.
  await rm(directory, { recursive: true, force: true });
}
