import { join } from 'node:path';
import { BangerError } from '../../errors.ts';
import { writeFileAtomic } from '../../host/files.ts';
import { getVm, type Vm } from '../../state/vms.ts';
import { listWorkspaces } from '../../state/workspaces.ts';
import type { EngineContext } from '../context.ts';
import type { Operation } from '../operations.ts';
import type { RunSummary } from '../rpc/vm-methods.ts';
import { exportWorkspace } from '../workspace/export-workspace.ts';
import { isUntouched } from '../workspace/is-untouched.ts';
import { refuseUnsaved } from '../workspace/refuse-unsaved.ts';
import { withSpool } from '../workspace/spool.ts';

/**
 * Saves what changed in a VM's working tree before the VM goes. Undefined when nothing did, or when it has no tree.
 * Throws when it cannot be known, or when a patch does not hold all of it: the VM's disk may hold the only copy.
 */
export async function savePatch(
  context: EngineContext,
  vm: Vm,
  operation: Operation,
): Promise<RunSummary['patch']> {
  const [sent] = listWorkspaces(context.db, vm.id);
  if (!sent) return undefined;
  const { hostPath } = sent;
  if (!context.handles.get(vm.id))
    throw new BangerError('invalid_state', 'its guest is not running any more');
  operation.enter('Looking for changes');
  if (await isUntouched(context, { vm, workspace: sent }, operation)) return undefined;
  return withSpool(context.layout, async (patch) => {
    const { files, warnings } = await exportWorkspace(context, { vm: vm.id }, operation, {
      write: (piece) => patch.write(piece),
      onPatch: (workspace, changes) => refuseUnsaved(context, { workspace, changes, hostPath }),
    });
    if (files.length === 0 && warnings.length === 0) return undefined;
    const time = new Date().toISOString().replaceAll(/[-:]/g, '').slice(0, 15);
    // As it is called now: it may have been renamed, and another VM have its old name.
    const { name } = getVm(context.db, vm.id);
    const path = join(context.layout.patchesDirectory, `${name}-${time}.patch`);
    await writeFileAtomic(path, patch.read(), 0o600);
    return { path, files: files.length, warnings: [...warnings] };
  });
}
