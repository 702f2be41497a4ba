import { deleteVmRow, findVm, moveVm } from '../../state/vms.ts';
import type { EngineContext } from '../context.ts';
import { failpoint } from '../failpoints.ts';
import type { Operation } from '../operations.ts';
import { endVmm } from './boot-vm.ts';
import { cleanUpCapabilities } from './capabilities.ts';

/**
 * Deletes a VM with everything it owns on the host; a running one is ended first. One that is gone already
 * counts as deleted. A stop that waits for its guest waits no longer.
 *
 * The row goes last: if anything cannot be removed, it stays in `deleting`, and the reconciler tries again.
 */
export async function deleteVm(context: EngineContext, id: string, operation: Operation): Promise<void> {
  await context.haste.hurry(id, () =>
    context.locks.vm.run(id, operation.signal, () => deleteHeldVm(context, id, operation)),
  );
}

/** The same, for whoever holds the VM's lock. */
export async function deleteHeldVm(context: EngineContext, id: string, operation: Operation): Promise<void> {
  if (!findVm(context.db, id)) return;
  operation.enter('Deleting VM');
  const vm = moveVm(context.db, id, 'deleting');
  await failpoint('row deleting');
  await endVmm(context, vm);
  await cleanUpCapabilities(context, vm);
  deleteVmRow(context.db, id);
}
