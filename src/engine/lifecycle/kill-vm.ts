import { getVm, moveVm, type Vm } from '../../state/vms.ts';
import type { EngineContext } from '../context.ts';
import type { Operation } from '../operations.ts';
import type { VmSignal } from '../rpc/vm-control-methods.ts';
import { endVmm } from './boot-vm.ts';
import { wakeGuest } from './guest-activity.ts';
import { pauseVm, resumeVm } from './pause-vm.ts';
import { settleVm } from './settle-vm.ts';
import { flushAndPowerOff, whileStopping } from './stop-vm.ts';

/**
 * Ends the VMM at once; what the guest has not written is lost. A stopped VM is left alone, and a stop that waits for
 * the guest waits no longer.
 */
export async function killVm(context: EngineContext, id: string, operation: Operation): Promise<Vm> {
  return context.haste.hurry(id, () =>
    context.locks.vm.run(id, operation.signal, () => killHeldVm(context, id, operation)),
  );
}

async function killHeldVm(context: EngineContext, id: string, operation: Operation): Promise<Vm> {
  const vm = await settleVm(context, getVm(context.db, id), operation);
  if (vm.state === 'stopped') return vm;
  return whileStopping(context, vm, async () => {
    operation.enter('Killing VMM');
    await endVmm(context, vm);
    return moveVm(context.db, id, 'stopped');
  });
}

/**
 * Does to a VM what a signal does to a process. KILL is the plug. STOP and CONT are pause and resume. The others ask
 * it to end, and do not wait: the guest is told to power off, as by its power button, and may take its time.
 */
export async function signalVm(
  context: EngineContext,
  request: { readonly id: string; readonly signal: VmSignal },
  operation: Operation,
): Promise<Vm> {
  const { id, signal } = request;
  switch (signal) {
    case 'KILL':
      return killVm(context, id, operation);
    case 'STOP':
      return pauseVm(context, id, operation);
    case 'CONT':
      return resumeVm(context, id, operation);
    case 'TERM':
    case 'INT':
    case 'QUIT':
    case 'HUP':
    case 'PWR':
      return askToPowerOff(context, id, operation);
  }
}

async function askToPowerOff(context: EngineContext, id: string, operation: Operation): Promise<Vm> {
  return context.locks.vm.run(id, operation.signal, async () => {
    const vm = await settleVm(context, getVm(context.db, id), operation);
    if (vm.state !== 'running' && vm.state !== 'paused') return vm;
    operation.enter('Asking the guest to power off');
    await wakeGuest(context, vm);
    await context.haste.patiently(id, (hurried) => flushAndPowerOff(context, vm, hurried));
    return vm.state === 'paused' ? moveVm(context.db, id, 'running') : vm;
  });
}
