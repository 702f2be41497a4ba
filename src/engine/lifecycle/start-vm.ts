import { errorText, explainHostError } from '../../errors.ts';
import { findVm, getVm, moveVm, type Vm } from '../../state/vms.ts';
import type { EngineContext } from '../context.ts';
import type { Operation } from '../operations.ts';
import { bootVm } from './boot-vm.ts';
import { withRollback } from './rollback.ts';
import { settleVm } from './settle-vm.ts';
import { watchVmm } from './vmm-watch.ts';

/**
 * Boots a stopped VM until its guest is ready. One that runs already is left alone. If it does not start it is
 * stopped, nothing of the attempt is left, and `lastError` says why.
 */
export async function startVm(context: EngineContext, id: string, operation: Operation): Promise<Vm> {
  context.haste.wake(id);
  return context.locks.vm.run(id, operation.signal, async () => {
    const vm = await settleVm(context, getVm(context.db, id), operation);
    if (vm.state === 'running') return vm;
    const running = await withRollback(operation, context.log, async (run) => {
      // First, so that it is undone last: a row that says `starting` may still have a VMM to be ended.
      await run({
        stage: 'Starting VM',
        apply: () => moveVm(context.db, id, 'starting'),
        undo: (error) => {
          if (findVm(context.db, id)?.state === 'starting')
            moveVm(context.db, id, 'stopped', errorText(explainHostError(error) ?? error));
        },
      });
      await bootVm(context, vm, operation, run);
      return moveVm(context.db, id, 'running');
    });
    watchVmm(context, running);
    return running;
  });
}
