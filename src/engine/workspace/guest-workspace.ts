import { BangerError } from '../../errors.ts';
import { listWorkspaces } from '../../state/workspaces.ts';
import type { WorkspaceContext } from '../context.ts';
import type { Operation } from '../operations.ts';
import { awaitRunningVm, type BoundVm } from './bound-vm.ts';
import type { GuestWorkspace } from './guest-tree/guest-changes.ts';
import { ensureGuestGit } from './guest-tree/guest-git.ts';
import { settleSend } from './sending/settle-sends.ts';

/** Runs a task with a workspace in its running guest, while nobody sends another tree there. */
export async function withGuestWorkspace<T>(
  context: WorkspaceContext,
  { vm: { id }, workspace }: BoundVm,
  operation: Operation,
  task: (workspace: GuestWorkspace) => Promise<T>,
): Promise<T> {
  const { signal } = operation;
  if (workspace.isReadOnly) {
    throw new BangerError(
      'invalid_state',
      `"${workspace.hostPath}" was sent read-only: nothing of it comes back`,
      {
        hint: `Send it to be changed: banger workspace prepare ${workspace.hostPath}`,
      },
    );
  }
  const vm = await awaitRunningVm(context, id, signal);
  return context.locks.workspace.run(id, signal, async () => {
    operation.enter('Reading changes');
    const guest = await context.guest(vm, signal);
    let git: Promise<string> | undefined;
    const ensureGit = (): Promise<string> =>
      (git ??= ensureGuestGit({ assets: context.assets, guest, vmName: vm.name, signal }));
    await settleSend(context, { vm, guest, guestPath: workspace.guestPath }, signal);
    // The base may have changed while this waited for a `prepare`.
    const recorded = listWorkspaces(context.db, id).find((each) => each.guestPath === workspace.guestPath);
    const { guestPath, baseTree } = recorded ?? workspace;
    return task({ guest, ensureGit, guestPath, baseTree, vmName: vm.name, signal });
  });
}
