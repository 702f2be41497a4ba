import { resolveVm } from '../state/vms.ts';
import type { EngineContext } from './context.ts';
import { pauseVm, resumeVm } from './lifecycle/pause-vm.ts';
import { route, type Route } from './rpc/server.ts';
import { vmPause, vmResume, vmSelect } from './rpc/vm-control-methods.ts';
import { selectVms } from './vm-selection.ts';
import { viewVm } from './vm-view.ts';

/** What the engine answers about VMs that exist, beyond starting and ending them. */
export function controlRoutes(context: EngineContext): Route[] {
  const find = (reference: string) => resolveVm(context.db, reference);
  return [
    route(vmSelect, (params) => selectVms(context.db, params)),
    route(vmPause, async ({ vm }, operation) =>
      viewVm(context, await pauseVm(context, find(vm).id, operation)),
    ),
    route(vmResume, async ({ vm }, operation) =>
      viewVm(context, await resumeVm(context, find(vm).id, operation)),
    ),
  ];
}
