import type { Database } from '../../state/database.ts';
import { findVm, resolveVm } from '../../state/vms.ts';
import { listWorkspaces, workspacesByVm, type Workspace } from '../../state/workspaces.ts';
import type { ParsedParams } from '../rpc/method.ts';
import type { workspaceList, WorkspaceView } from '../rpc/workspace-methods.ts';
import { resolveWorkspace } from './bound-vm.ts';

/** Workspaces of a VM, of a working tree's VM, or all. Throws `not_found` for a tree that was not sent anywhere. */
export async function viewWorkspaces(
  db: Database,
  { path, vm: reference, guestPath }: ParsedParams<typeof workspaceList>,
): Promise<WorkspaceView[]> {
  if (path !== undefined || guestPath !== undefined) {
    const { vm, workspace } = await resolveWorkspace(db, { path, vm: reference, guestPath }, 'remote');
    return [view(vm.name, workspace)];
  }
  if (reference !== undefined) {
    const vm = resolveVm(db, reference);
    return listWorkspaces(db, vm.id).map((workspace) => view(vm.name, workspace));
  }
  return [...workspacesByVm(db)].flatMap(([id, workspaces]) => {
    const vm = findVm(db, id);
    return vm ? workspaces.map((workspace) => view(vm.name, workspace)) : [];
  });
}

function view(vm: string, workspace: Workspace): WorkspaceView {
  const { hostPath, guestPath, head, branch, preparedAt } = workspace;
  return { vm, hostPath, guestPath, head, branch, preparedAt };
}
