import { errorText } from '../../errors.ts';
import { moveVm, type Vm, getVm } from '../../state/vms.ts';
import type { EngineContext } from '../context.ts';
import { failpoint } from '../failpoints.ts';
import type { Operation } from '../operations.ts';
import { bootVm } from './boot-vm.ts';
import { withRollback } from './rollback.ts';
import { watchVmm } from './vmm-watch.ts';

/**
 * Boots a stopped VM until its guest is ready. One that runs already is left alone. If it does not start it is
 * stopped, nothing of the attempt is left, and `lastError` says why.
 */
export async function startVm(context: EngineContext, id: string, operation: Operation): Promise<Vm> {
  return context.locks.vm.run(id, operation.signal, async () => {
    const vm = getVm(context.db, id);
    if (vm.state === 'running') return vm;
    moveVm(context.db, id, 'starting');
    try {
      await failpoint('row starting');
      await withRollback(operation, context.log, (run) => bootVm(context, vm, operation, run));
    } catch (error) {
      moveVm(context.db, id, 'stopped', errorText(error));
      throw error;
    }
    const running = moveVm(context.db, id, 'running');
    watchVmm(context, running);
    return running;
  });
}
