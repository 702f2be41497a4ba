import { BangerError } from '../../errors.ts';
import { getVm, moveVm, type Vm } from '../../state/vms.ts';
import type { VmState } from '../../state/vm-states.ts';
import type { EngineContext } from '../context.ts';
import type { Operation } from '../operations.ts';
import { requireRunning } from './exec-vm.ts';
import { setGuestClock } from './guest-clocks.ts';
import { matchActivity, vmmControl } from './guest-activity.ts';
import { withRollback } from './rollback.ts';
import { settleVm } from './settle-vm.ts';

/**
 * Makes a running VM's processors stand still, keeping its memory. Programs in it, and connections to it, wait. One
 * that is paused already is left alone.
 */
export async function pauseVm(context: EngineContext, id: string, operation: Operation): Promise<Vm> {
  return context.locks.vm.run(id, operation.signal, async () => {
    const vm = await settleVm(context, getVm(context.db, id), operation);
    if (vm.state === 'paused') return vm;
    requireRunning(vm);
    return withRollback(operation, context.log, async (run) => {
      await run({
        stage: 'Pausing VMM',
        apply: async () => (await vmmControl(context, vm)).pause(),
        undo: async () => (await vmmControl(context, vm)).resume(),
      });
      return run({
        stage: 'Recording pause',
        apply: () => moveVm(context.db, id, 'paused'),
        undo: () => moveBack(context, id, { from: 'paused', to: 'running' }),
      });
    });
  });
}

/**
 * Lets a paused VM go on, with the host's time on its clock. One that runs is left alone. Throws `invalid_state` when the
 * host still lacks what it was paused for.
 */
export async function resumeVm(context: EngineContext, id: string, operation: Operation): Promise<Vm> {
  const resumed = await context.locks.vm.run(id, operation.signal, async () => {
    const vm = await settleVm(context, getVm(context.db, id), operation);
    if (vm.state === 'running') return vm;
    if (vm.state !== 'paused') {
      throw new BangerError('invalid_state', `VM "${vm.name}" is ${vm.state}, not paused`, {
        hint: vm.state === 'stopped' ? `Start it with: banger vm start ${vm.name}` : undefined,
      });
    }
    return withRollback(operation, context.log, async (run) => {
      await run({
        stage: 'Resuming VMM',
        apply: async () => (await vmmControl(context, vm)).resume(),
        undo: async () => (await vmmControl(context, vm)).pause(),
      });
      return run({
        stage: 'Recording resume',
        apply: () => moveVm(context.db, id, 'running'),
        undo: () => moveBack(context, id, { from: 'running', to: 'paused' }),
      });
    });
  });
  operation.enter('Setting clock');
  await setGuestClock(context, resumed, operation);
  await matchActivity(context, id);
  const now = getVm(context.db, id);
  if (now.state !== 'paused' || now.lastError === undefined) return now;
  throw new BangerError('invalid_state', `VM "${now.name}" has gone on, and was paused again at once`, {
    hint: now.lastError,
  });
}

/** Takes a move back, if it was made. */
function moveBack(context: EngineContext, id: string, { from, to }: Record<'from' | 'to', VmState>): void {
  if (getVm(context.db, id).state === from) moveVm(context.db, id, to);
}
