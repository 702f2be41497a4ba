import { listKernels } from '../state/kernels.ts';
import type { EngineContext } from './context.ts';
import { chooseDefaultKernel, deleteKernel } from './images/kernels/delete-kernel.ts';
import { chooseKernel } from './images/kernels/find-kernel.ts';
import { importKernel } from './images/kernels/import-kernel.ts';
import { toKernelDetails, toKernelView } from './images/kernels/kernel-views.ts';
import { pullKernel } from './images/kernels/pull-kernel.ts';
import {
  kernelDelete,
  kernelImport,
  kernelList,
  kernelPull,
  kernelSetDefault,
  kernelShow,
} from './rpc/kernel-methods.ts';
import { route, type Route } from './rpc/server.ts';

/** Every method about kernels, one entry each. */
export function kernelRoutes(context: EngineContext): Route[] {
  return [
    route(kernelImport, async ({ path, modulesPath, name }, operation) => {
      const request = { path, modulesPath, name, source: 'import' as const, origin: path };
      return toKernelView(context, await importKernel(context, request, operation));
    }),
    route(kernelPull, async (params, operation) =>
      toKernelView(context, await pullKernel(context, params, operation)),
    ),
    route(kernelList, () =>
      Promise.all([undefined, ...listKernels(context.db)].map((kernel) => toKernelView(context, kernel))),
    ),
    route(kernelShow, ({ reference }) => toKernelDetails(context, chooseKernel(context.db, reference))),
    route(kernelDelete, ({ reference }, operation) => deleteKernel(context, reference, operation.signal)),
    route(kernelSetDefault, async ({ reference }, operation) =>
      toKernelView(context, await chooseDefaultKernel(context, reference, operation.signal)),
    ),
  ];
}
