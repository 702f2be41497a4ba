import { setTimeout as sleep } from 'node:timers/promises';
import { errorText, explainHostError } from '../../errors.ts';
import type { GuestEnd } from '../../host/drivers/driver.ts';
import { waitForExit } from '../../host/process.ts';
import { getVm, moveVm, type Vm } from '../../state/vms.ts';
import type { EngineContext } from '../context.ts';
import { failpoint } from '../failpoints.ts';
import type { Operation } from '../operations.ts';
import { findVmm } from '../vmm-drivers.ts';
import { endVmm, forgetVmm } from './boot-vm.ts';
import { vmmControl, wakeGuest } from './guest-activity.ts';
import { hasVmm, settleVm } from './settle-vm.ts';

export interface StoppedVm {
  readonly vm: Vm;
  /** False when the guest had to be killed before it had flushed its disks */
  readonly flushed: boolean;
}

/** How long the guest may take to hear us before the power button is tried. */
const reachTimeoutMs = 5_000;

/**
 * Stops a VM: the guest flushes its disks and powers off; one that is still there after `timeoutMs` is ended. A
 * VM that is stopped already is left alone.
 *
 * Once begun it is not cancelled: half a stop is worse than a whole one, and it is bounded anyway. Who kills or deletes
 * the VM meanwhile ends the wait, and with it the VMM.
 */
export async function stopVm(
  context: EngineContext,
  request: {
    readonly id: string;
    readonly timeoutMs: number;
    /** For a stop nobody asked for: why, said once the lock is held; undefined when the VM is to go on after all */
    readonly because?: () => string | undefined;
  },
  operation: Operation,
): Promise<StoppedVm> {
  const { id, timeoutMs } = request;
  return context.locks.vm.run(id, operation.signal, async () => {
    const vm = await settleVm(context, getVm(context.db, id), operation);
    const why = request.because?.();
    if (vm.state === 'stopped' || (request.because && why === undefined)) return { vm, flushed: true };
    return whileStopping(context, vm, async () => {
      operation.enter('Flushing disks');
      await wakeGuest(context, vm);
      // Told by the VMM as it ends: asked for now, since the connection is forgotten then.
      const end = (await context.controls.get(id)?.catch(() => undefined))?.closed;
      const outcome = await context.haste.patiently(id, async (hurried) => {
        const saidFlushed = await flushAndPowerOff(context, vm, hurried);
        await failpoint('guest asked');

        operation.enter('Powering off');
        const process = context.handles.get(id)?.process ?? findVmm(context, id)?.process;
        const ended = !process || (await waitForExit(process, timeoutMs, hurried));
        return { saidFlushed, ended, isHurried: hurried.aborted };
      });
      const { saidFlushed, ended } = outcome;
      if (!ended) context.log('warn', 'VM did not power off in time and was ended', { vm: id, ...outcome });
      await endVmm(context, vm);
      const flushed = saidFlushed || (ended && (await hasShutDown(end)));
      return { vm: moveVm(context.db, id, 'stopped', flushed ? why : lossText(outcome)), flushed };
    });
  });
}

/** Runs a stop. One that fails leaves the row saying what is true: the VM runs still, or it does not. */
export async function whileStopping<T>(context: EngineContext, vm: Vm, stop: () => Promise<T>): Promise<T> {
  moveVm(context.db, vm.id, 'stopping');
  try {
    return await stop();
  } catch (error) {
    try {
      if (hasVmm(context, vm)) moveVm(context.db, vm.id, 'running');
      else {
        moveVm(context.db, vm.id, 'stopped', errorText(explainHostError(error) ?? error));
        await forgetVmm(context, vm);
      }
    } catch (second) {
      // The next verb on this VM finds it so, and settles it.
      context.log('error', `state could not be corrected: ${errorText(second)}`, { vm: vm.id });
    }
    throw error;
  }
}

/** A VMM that has ended has said why just before, and its connection is closed, or is about to be. */
const lastWordsTimeoutMs = 1_000;

/**
 * True when the guest has run its own shutdown, which flushes. A VMM that is killed from outside, a crash and a
 * panic end a process just as well, with nothing written.
 */
async function hasShutDown(end: Promise<GuestEnd | undefined> | undefined): Promise<boolean> {
  const silence = sleep(lastWordsTimeoutMs, undefined, { ref: false });
  return (await Promise.race([end, silence])) === 'power-off';
}

function lossText({ ended, isHurried }: { readonly ended: boolean; readonly isHurried: boolean }): string {
  const silence = isHurried
    ? 'Another command killed it before the guest had flushed its disks'
    : 'The guest did not answer and was killed';
  const what = ended ? 'The VMM ended before the guest had flushed its disks' : silence;
  return `${what}; what it had not written is lost`;
}

/**
 * True when the guest said that its disks are flushed. Else the power button was pressed, for what it is worth.
 * `hurried` ends the wait for the guest.
 */
export async function flushAndPowerOff(
  context: EngineContext,
  vm: Vm,
  hurried: AbortSignal,
): Promise<boolean> {
  try {
    const guest = await context.guest(vm, AbortSignal.any([hurried, AbortSignal.timeout(reachTimeoutMs)]));
    await guest.powerOff(hurried);
    return true;
  } catch (error) {
    context.log('warn', `guest could not be asked to power off: ${errorText(error)}`, { vm: vm.id });
  }
  try {
    await (await vmmControl(context, vm)).pressPowerButton();
  } catch (error) {
    context.log('warn', `power button could not be pressed: ${errorText(error)}`, { vm: vm.id });
  }
  return false;
}
