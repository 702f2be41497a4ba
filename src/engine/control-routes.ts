import { resolveVm } from '../state/vms.ts';
import type { EngineContext } from './context.ts';
import { signalVm } from './lifecycle/kill-vm.ts';
import { pauseVm, resumeVm } from './lifecycle/pause-vm.ts';
import { pruneVms } from './lifecycle/prune-vms.ts';
import { setVm } from './lifecycle/set-vm.ts';
import { readVmPorts } from './lifecycle/vm-ports.ts';
import { readVmStats } from './lifecycle/vm-stats.ts';
import { waitForVm } from './lifecycle/wait-vm.ts';
import { route, type Route } from './rpc/server.ts';
import { vmKill, vmPause, vmPrune, vmResume, vmSelect, vmSet, vmWait } from './rpc/vm-control-methods.ts';
import { vmPorts, vmStats } from './rpc/vm-stats-methods.ts';
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
    route(vmSet, async ({ vm, ...params }, operation) => {
      const done = await setVm(context, { id: find(vm).id, params }, operation);
      return { ...viewVm(context, done.vm), applied: [...done.applied], atNextStart: [...done.atNextStart] };
    }),
    route(vmKill, async ({ vm, signal }, operation) =>
      viewVm(context, await signalVm(context, { id: find(vm).id, signal }, operation)),
    ),
    route(vmStats, (params, operation) => readVmStats(context, params, operation.signal)),
    route(vmPorts, ({ vm }, operation) => readVmPorts(context, find(vm), operation.signal)),
    route(vmWait, (params, operation) => waitForVm(context, params, operation)),
    route(vmPrune, (params, operation) => pruneVms(context, params, operation)),
    route(vmResume, async ({ vm }, operation) =>
      viewVm(context, await resumeVm(context, find(vm).id, operation)),
    ),
  ];
}
