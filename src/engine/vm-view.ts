import { stat } from 'node:fs/promises';
import type * as z from 'zod/mini';
import { getKernel } from '../state/kernels.ts';
import { vmPaths } from '../state/layout.ts';
import type { Vm } from '../state/vms.ts';
import { listWorkspaces } from '../state/workspaces.ts';
import type { EngineContext } from './context.ts';
import { shownKernel } from './images/kernels/find-kernel.ts';
import type { VmView, vmShow } from './rpc/vm-methods.ts';

/** A VM as clients see it. */
export function viewVm(context: EngineContext, vm: Vm): VmView {
  const handles = context.handles.get(vm.id);
  return {
    id: vm.id,
    name: vm.name,
    state: vm.state,
    image: vm.imageName,
    cpus: vm.cpus,
    memoryMib: vm.memoryMib,
    diskBytes: vm.diskBytes,
    network: vm.network,
    createdAt: vm.createdAt,
    startedAt: vm.startedAt,
    stoppedAt: vm.stoppedAt,
    lastError: vm.lastError,
    vmm: handles && `${handles.driver} (${handles.acceleration})`,
    sshPort: handles?.sshPort,
    bootId: handles?.guestBootId,
    workspaces: listWorkspaces(context.db, vm.id).map(({ hostPath, guestPath }) => ({ hostPath, guestPath })),
  };
}

/** Everything that `vm show` tells. */
export async function viewVmDetails(context: EngineContext, vm: Vm): Promise<z.output<typeof vmShow.result>> {
  const disk = await stat(vmPaths(context.layout, vm.id).disk).catch(() => undefined);
  const blockBytes = 512;
  return {
    ...viewVm(context, vm),
    imageId: vm.imageId,
    kernel: shownKernel(vm.kernelId === undefined ? undefined : getKernel(context.db, vm.kernelId)),
    hostPublicKey: vm.hostPublicKey,
    bootPhases: context.handles.get(vm.id)?.phases,
    diskUsedBytes: (disk?.blocks ?? 0) * blockBytes,
  };
}
