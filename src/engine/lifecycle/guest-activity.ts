import { BangerError, errorText } from '../../errors.ts';
import type { GuestActivity, VmmControl } from '../../host/drivers/driver.ts';
import { findVm, moveVm, type Vm } from '../../state/vms.ts';
import type { EngineContext } from '../context.ts';

/** How long a VMM may take to tell what it does. One that is itself stopped must not keep others waiting. */
const askTimeoutMs = 2_000;

/** The control connection of a running VM. Throws `command_failed` when there is none. */
export async function vmmControl(context: EngineContext, vm: Pick<Vm, 'id' | 'name'>): Promise<VmmControl> {
  const control = await context.controls.get(vm.id)?.catch(() => undefined);
  if (control) return control;
  throw new BangerError(
    'command_failed',
    `The VMM of VM "${vm.name}" does not answer on its control socket`,
    {
      hint: `Stop and start it again with: banger vm restart ${vm.name}`,
    },
  );
}

/**
 * Makes the row of a running VM say what its VMM says: whether the guest runs or stands still, whoever paused it.
 * The VM's lock is taken. What cannot be found out is left as it is: never rejects.
 */
export async function matchActivity(context: EngineContext, id: string): Promise<void> {
  await context.locks.vm.run(id, new AbortController().signal, async () => {
    try {
      const vm = findVm(context.db, id);
      if (!vm || (vm.state !== 'running' && vm.state !== 'paused')) return;
      const activity = await (await vmmControl(context, vm)).activity(askTimeoutMs);
      if (activity === 'other') return;
      const state = activity === 'running' ? 'running' : 'paused';
      if (state === vm.state) return;
      moveVm(context.db, id, state, pauseReason(vm, activity));
      context.log('info', `VM is ${state}`, { vm: id, activity });
    } catch (error) {
      context.log('warn', `what a VM does could not be found out: ${errorText(error)}`, { vm: id });
    }
  });
}

/** Why a guest stands still that nobody has paused. */
function pauseReason(vm: Vm, activity: GuestActivity): string | undefined {
  if (activity === 'disk-full')
    return `The host's disk is full, so the guest was paused at a write. Make room, then: banger vm resume ${vm.name}`;
  if (activity === 'disk-failed')
    return `The host did not take a write to the VM's disk (a quota, or the disk fails), so the guest was paused. Look at: dmesg; quota. Then: banger vm resume ${vm.name}`;
  return undefined;
}

/** Lets a guest that stands still go on, since it cannot flush its disks otherwise. One that runs is left alone. */
export async function wakeGuest(context: EngineContext, vm: Vm): Promise<void> {
  try {
    const control = await vmmControl(context, vm);
    if ((await control.activity(askTimeoutMs)) !== 'running') await control.resume();
  } catch (error) {
    context.log('warn', `guest could not be resumed: ${errorText(error)}`, { vm: vm.id });
  }
}
