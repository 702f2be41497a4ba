import { eventRoutes } from './event-routes.ts';
import { operationRoutes } from './operation-routes.ts';
import { listVms, resolveVm } from '../state/vms.ts';
import type { EngineContext } from './context.ts';
import { controlRoutes } from './control-routes.ts';
import { copyRoutes } from './copy-routes.ts';
import { egressRoutes } from './egress/routes.ts';
import { imageRoutes } from './image-routes.ts';
import { kernelRoutes } from './kernel-routes.ts';
import { createVm } from './lifecycle/create-vm.ts';
import { deleteVm } from './lifecycle/delete-vm.ts';
import { execVm } from './lifecycle/exec-vm.ts';
import { runVm } from './lifecycle/run-vm.ts';
import { startVm } from './lifecycle/start-vm.ts';
import { stopVm } from './lifecycle/stop-vm.ts';
import { networkRoutes } from './network/network-routes.ts';
import { route, streamRoute, type Route } from './rpc/server.ts';
import {
  vmCreate,
  vmDelete,
  vmExec,
  vmList,
  vmRestart,
  vmRun,
  vmShow,
  vmStart,
  vmStop,
} from './rpc/vm-methods.ts';
import { vmLogs } from './rpc/vm-log-methods.ts';
import {
  workspaceApply,
  workspaceExport,
  workspaceList,
  workspacePlan,
  workspacePrepare,
  workspaceUploadPack,
  workspaceWatch,
} from './rpc/workspace-methods.ts';
import { templateRoutes } from './setup/template-routes.ts';
import { sendVmLog } from './vm-logs.ts';
import { labelled } from './vm-selection.ts';
import { viewVm, viewVmDetails, viewVms } from './vm-view.ts';
import { exportWorkspaceRoute } from './workspace/export-workspace.ts';
import { applyWorkspaceRoute, prepareWorkspaceRoute, watchWorkspaceRoute } from './workspace/handlers.ts';
import { viewWorkspaces } from './workspace/list-workspaces.ts';
import { planWorkspaceRoute } from './workspace/plan-workspace.ts';
import { serveWorkspace } from './workspace/serve-workspace.ts';

/** Every method the engine answers about VMs, images, kernels and workspaces, one entry each. */
export function routes(context: EngineContext): Route[] {
  const find = (reference: string) => resolveVm(context.db, reference);
  return [
    route(vmCreate, async (params, operation) => {
      const vm = await createVm(context, { ...params, ephemeral: false }, operation);
      return { ...viewVm(context, vm), stages: [...operation.timings()] };
    }),
    route(vmList, ({ labels }) => viewVms(context, labelled(listVms(context.db), labels))),
    route(vmShow, (params) => viewVmDetails(context, find(params.vm))),
    route(vmStart, async (params, operation) =>
      viewVm(context, await startVm(context, find(params.vm).id, operation)),
    ),
    route(vmStop, async (params, operation) => {
      const { vm, flushed } = await stopVm(
        context,
        { id: find(params.vm).id, timeoutMs: params.timeoutMs },
        operation,
      );
      return { ...viewVm(context, vm), flushed };
    }),
    route(vmRestart, async (params, operation) => {
      const { id } = find(params.vm);
      const { flushed } = await stopVm(context, { id, timeoutMs: params.timeoutMs }, operation);
      return { ...viewVm(context, await startVm(context, id, operation)), flushed };
    }),
    route(vmDelete, async (params, operation) => {
      const { id, name } = find(params.vm);
      await deleteVm(context, id, operation);
      return { id, name };
    }),
    streamRoute(vmLogs, async ({ vm, ...request }, { signal }, stream) => {
      await sendVmLog(context, { vm: find(vm), ...request }, { signal, stream });
      return { code: 0 };
    }),
    streamRoute(vmExec, (params, operation, stream) =>
      execVm(context, { vm: find(params.vm), params, stream }, operation),
    ),
    streamRoute(vmRun, (params, operation, stream) => runVm(context, params, { operation, stream })),
    ...controlRoutes(context),
    ...copyRoutes(context),
    ...egressRoutes(context),
    ...imageRoutes(context),
    ...kernelRoutes(context),
    ...networkRoutes(context),
    route(workspacePrepare, (params, operation) => prepareWorkspaceRoute(context, params, operation)),
    streamRoute(workspacePlan, (params, operation, stream) =>
      planWorkspaceRoute(context, params, { operation, stream }),
    ),
    streamRoute(workspaceExport, (params, operation, stream) =>
      exportWorkspaceRoute(context, params, { operation, stream }),
    ),
    streamRoute(workspaceUploadPack, (params, operation, stream) =>
      serveWorkspace(context, params, { operation, stream }),
    ),
    route(workspaceList, (params) => viewWorkspaces(context.db, params)),
    streamRoute(workspaceWatch, async (params, operation, stream) => {
      await watchWorkspaceRoute(context, params, { operation, stream });
      return { code: 0 };
    }),
    route(workspaceApply, (params, operation) => applyWorkspaceRoute(context, params, operation)),
    ...operationRoutes(context),
    ...templateRoutes(context),
    ...eventRoutes(context),
  ];
}
