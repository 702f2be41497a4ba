import { join } from 'node:path';
import { BangerError } from '../../errors.ts';
import { writeFileAtomic } from '../../host/files.ts';
import { getVm, type Vm } from '../../state/vms.ts';
import { listWorkspaces, type Workspace } from '../../state/workspaces.ts';
import type { EngineContext } from '../context.ts';
import type { Operation } from '../operations.ts';
import type { RunSummary } from '../rpc/vm-methods.ts';
import type { BoundVm } from '../workspace/bound-vm.ts';
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
  const sent = listWorkspaces(context.db, vm.id);
  if (sent.length === 0) return undefined;
  if (!context.handles.get(vm.id))
    throw new BangerError('invalid_state', 'its guest is not running any more');
  operation.enter('Looking for changes');
  const changed: Workspace[] = [];
  for (const workspace of sent)
    if (!(await isUntouched(context, { vm, workspace }, operation))) changed.push(workspace);
  const patches: NonNullable<RunSummary['patch']>[] = [];
  for (const [index, workspace] of changed.entries()) {
    const suffix = index === 0 ? '' : `-${index + 1}`;
    const patch = await saveOne(context, { vm, workspace, suffix }, operation);
    if (patch) patches.push(patch);
  }
  const [patch, ...others] = patches;
  if (others.length === 0) return patch;
  // Somebody has sent more into it than the run did, and looks for it there.
  const paths = patches.map(({ path }) => path).join(', ');
  throw new BangerError(
    'invalid_state',
    `several of its trees have changes; the patches of them are ${paths}`,
  );
}

async function saveOne(
  context: EngineContext,
  { vm, workspace: { hostPath, guestPath }, suffix }: BoundVm & { readonly suffix: string },
  operation: Operation,
): Promise<RunSummary['patch']> {
  return withSpool(context.layout, async (patch) => {
    const { files, warnings } = await exportWorkspace(context, { vm: vm.id, guestPath }, operation, {
      write: (piece) => patch.write(piece),
      onPatch: (workspace, changes) => refuseUnsaved(context, { workspace, changes, hostPath }),
    });
    if (files.length === 0 && warnings.length === 0) return undefined;
    const time = new Date().toISOString().replaceAll(/[-:]/g, '').slice(0, 15);
    // As it is called now: it may have been renamed, and another VM have its old name.
    const { name } = getVm(context.db, vm.id);
    const path = join(context.layout.patchesDirectory, `${name}-${time}${suffix}.patch`);
    await writeFileAtomic(path, patch.read(), 0o600);
    return { path, files: files.length, warnings: [...warnings] };
  });
}
