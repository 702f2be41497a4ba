import type { EngineContext } from '../context.ts';
import { createVm } from '../lifecycle/create-vm.ts';
import { deleteVm } from '../lifecycle/delete-vm.ts';
import { startVm } from '../lifecycle/start-vm.ts';
import type { Vm } from '../../state/vms.ts';
import { uncancellable, type Operation } from '../operations.ts';
import type { ParsedParams, ResultOf } from '../rpc/method.ts';
import type { workspacePrepare } from '../rpc/workspace-methods.ts';
import { findBoundVm } from './bound-vm.ts';
import { prepareWorkspace, type EnsureVm } from './prepare-workspace.ts';

/** A VM that is made for the tree goes again when the tree does not arrive. */
export async function prepareWorkspaceRoute(
  context: EngineContext,
  params: ParsedParams<typeof workspacePrepare>,
  operation: Operation,
): Promise<ResultOf<typeof workspacePrepare>> {
  let created: Vm | undefined;
  try {
    return await prepareWorkspace(context, params, operation, async (hostPath) => {
      const chosen = await ensureVm(context, hostPath, operation);
      if (chosen.created) created = chosen.vm;
      return chosen;
    });
  } catch (error) {
    if (created) await deleteVm(context, created.id, uncancellable(operation));
    throw error;
  }
}

/** The VM a tree was sent to before, started if need be, or a new one with the defaults. */
async function ensureVm(
  context: EngineContext,
  hostPath: string,
  operation: Operation,
): ReturnType<EnsureVm> {
  // The VM of a `vm run` belongs to that run, and goes with it.
  const bound = findBoundVm(context.db, hostPath, (vm) => !vm.ephemeral);
  if (bound) return { vm: await startVm(context, bound.vm.id, operation), created: false };
  return { vm: await createVm(context, { start: true, ephemeral: false }, operation), created: true };
}
