import type { EngineContext } from '../context.ts';
import { createVm } from '../lifecycle/create-vm.ts';
import { startVm } from '../lifecycle/start-vm.ts';
import type { Operation } from '../operations.ts';
import type { ParsedParams, ResultOf } from '../rpc/method.ts';
import type { workspaceExport, workspacePrepare } from '../rpc/workspace-methods.ts';
import { findBoundVm } from './bound-vm.ts';
import { exportWorkspace } from './export-workspace.ts';
import { prepareWorkspace, type EnsureVm } from './prepare-workspace.ts';

export function prepareWorkspaceRoute(
  context: EngineContext,
  params: ParsedParams<typeof workspacePrepare>,
  operation: Operation,
): Promise<ResultOf<typeof workspacePrepare>> {
  return prepareWorkspace(context, params, operation, (hostPath) => ensureVm(context, hostPath, operation));
}

export function exportWorkspaceRoute(
  context: EngineContext,
  params: ParsedParams<typeof workspaceExport>,
  operation: Operation,
): Promise<ResultOf<typeof workspaceExport>> {
  return exportWorkspace(context, params, operation);
}

/** The VM a tree was sent to before, started if need be, or a new one with the defaults. */
async function ensureVm(
  context: EngineContext,
  hostPath: string,
  operation: Operation,
): ReturnType<EnsureVm> {
  const bound = findBoundVm(context.db, hostPath);
  if (bound) return { vm: await startVm(context, bound.vm.id, operation), created: false };
  return { vm: await createVm(context, { start: true, ephemeral: false }, operation), created: true };
}
