import type { WorkspaceContext } from '../context.ts';
import type { Operation } from '../operations.ts';
import type { ParsedParams, ResultOf } from '../rpc/method.ts';
import type { WorkspaceChange, workspaceExport } from '../rpc/workspace-methods.ts';
import { resolveWorkspace, type BoundVm } from './bound-vm.ts';
import { readChanges, readPatch } from './guest-changes.ts';
import { withGuestWorkspace } from './guest-workspace.ts';
import { displayPath } from './raw-path.ts';

/** What a guest changed in a workspace. */
export interface WorkspaceChanges {
  readonly baseTree: string;
  /** As it is now; the guest's repository has it */
  readonly tree: string;
  readonly files: readonly WorkspaceChange[];
  readonly patch: Buffer;
  readonly warnings: readonly string[];
}

/** Answers what changed in the guest since the tree was sent. Guest and host stay as they are. */
export async function exportWorkspace(
  context: WorkspaceContext,
  params: ParsedParams<typeof workspaceExport>,
  operation: Operation,
): Promise<ResultOf<typeof workspaceExport>> {
  const bound = await resolveWorkspace(context.db, params);
  const changes = await readWorkspace(context, bound, operation);
  return {
    vm: bound.vm.name,
    hostPath: bound.workspace.hostPath,
    guestPath: bound.workspace.guestPath,
    baseTree: changes.baseTree,
    tree: changes.tree,
    patch: changes.patch.toString('base64'),
    files: [...changes.files],
    warnings: [...changes.warnings],
  };
}

async function readWorkspace(
  context: WorkspaceContext,
  bound: BoundVm,
  operation: Operation,
): Promise<WorkspaceChanges> {
  return withGuestWorkspace(context, bound, operation, async (workspace) => {
    const { tree, files, nested } = await readChanges(workspace);
    const patch = files.length > 0 ? await readPatch(workspace, tree) : Buffer.alloc(0);
    const warnings = nested.map(
      (path) => `"${displayPath(path)}" is a repository of its own and is not in the patch`,
    );
    return { baseTree: workspace.baseTree, tree, files, patch, warnings };
  });
}
