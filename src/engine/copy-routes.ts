import { resolveVm } from '../state/vms.ts';
import type { EngineContext } from './context.ts';
import { copyIn, copyOut, lookAtPath } from './copy/guest-files.ts';
import { route, streamRoute, type Route } from './rpc/server.ts';
import { vmCopyIn, vmCopyOut, vmPath } from './rpc/vm-copy-methods.ts';

/** Every method about files of running VMs, one entry each. */
export function copyRoutes(context: EngineContext): Route[] {
  const named = <P extends { readonly vm: string }>(params: P) => ({
    ...params,
    vm: resolveVm(context.db, params.vm),
  });
  return [
    route(vmPath, (params, operation) => lookAtPath(context, named(params), operation)),
    streamRoute(vmCopyOut, (params, operation, stream) =>
      copyOut(context, named(params), { operation, stream }),
    ),
    streamRoute(vmCopyIn, (params, operation, stream) =>
      copyIn(context, named(params), { operation, stream }),
    ),
  ];
}
