import { listWorkspaces, type Workspace } from '../../state/workspaces.ts';
import type { WorkspaceContext } from '../context.ts';
import type { Operation } from '../operations.ts';
import { isAsSent } from './guest-tree/quick-look.ts';
import { readManifest } from './sending/manifest.ts';
import { isSendUnsettled, manifestPlace } from './sending/settle-sends.ts';
import type { Vm } from '../../state/vms.ts';

/**
 * Whether nobody has changed, committed or begun anything in a workspace since it was sent, as far as one look tells: git
 * in the guest takes longer, and is sent there first when its image has none. False when it cannot be told like this.
 */
export async function isUntouched(
  context: WorkspaceContext,
  { vm, workspace: { guestPath } }: { readonly vm: Vm; readonly workspace: Workspace },
  { signal }: Operation,
): Promise<boolean> {
  return context.locks.workspace.run(vm.id, signal, async () => {
    const known = listWorkspaces(context.db, vm.id).find((each) => each.guestPath === guestPath);
    if (!known || known.isReadOnly || isSendUnsettled(context.db, vm.id, guestPath)) return false;
    const manifest = await readManifest(manifestPlace(context.layout, known), known);
    if (!manifest) return false;
    const guest = await context.guest(vm, signal);
    return isAsSent({ ...known, guest, files: manifest.files, signal });
  });
}
