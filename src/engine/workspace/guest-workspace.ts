import { BangerError } from '../../errors.ts';
import { listWorkspaces, type Workspace } from '../../state/workspaces.ts';
import type { WorkspaceContext } from '../context.ts';
import type { Operation } from '../operations.ts';
import { awaitRunningVm, type BoundVm } from './bound-vm.ts';
import type { GuestWorkspace } from './guest-tree/guest-changes.ts';
import { ensureGuestGit } from './guest-tree/guest-git.ts';
import type { SentTree } from './guest-tree/told-changes.ts';
import { fetchManifest } from './sending/manifest.ts';
import { manifestPlace, settleSend } from './sending/settle-sends.ts';

/** Runs a task with a workspace in its running guest, and what was sent there, while nobody sends another tree. */
export async function withGuestWorkspace<T>(
  context: WorkspaceContext,
  { vm: { id }, workspace }: BoundVm,
  operation: Operation,
  task: (workspace: GuestWorkspace, sent: Workspace) => Promise<T>,
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
    const sent = recorded ?? workspace;
    const { guestPath, baseTree } = sent;
    return task({ guest, ensureGit, guestPath, baseTree, vmName: vm.name, signal }, sent);
  });
}

/** What a workspace was sent, by which its guest is understood; undefined when that is not known any more. */
export async function fetchSent(
  { layout }: Pick<WorkspaceContext, 'layout'>,
  workspace: Workspace,
): Promise<SentTree | undefined> {
  const manifest = await fetchManifest(manifestPlace(layout, workspace), workspace);
  return manifest && { token: workspace.token, ...manifest };
}
