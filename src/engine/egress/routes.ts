import { egressWords } from '../../state/egress.ts';
import { resolveVm } from '../../state/vms.ts';
import type { EngineContext } from '../context.ts';
import { route, type Route } from '../rpc/server.ts';
import { vmEgress, vmEgressLog } from '../rpc/vm-egress-methods.ts';
import { proxyUrl } from './guest-egress.ts';

/** What the engine answers about what VMs may reach; `vm.set` changes it. */
export function egressRoutes(context: EngineContext): Route[] {
  return [
    route(vmEgress, (params) => {
      const { id, name, state, network, egress } = resolveVm(context.db, params.vm);
      const way = context.egress.state(id);
      return {
        id,
        name,
        state,
        network,
        egress: egressWords(egress),
        proxy: way && { url: proxyUrl, ...way },
      };
    }),
    route(vmEgressLog, (params) => {
      const { id, name } = resolveVm(context.db, params.vm);
      return { id, name, entries: [...context.egress.log(id)] };
    }),
  ];
}
