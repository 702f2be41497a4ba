import { isAlive } from '../../host/process.ts';
import { moveVm, type Vm } from '../../state/vms.ts';
import type { EngineContext } from '../context.ts';
import type { Operation } from '../operations.ts';
import { findVmm } from '../vmm-drivers.ts';
import { endVmm, forgetVmm } from './boot-vm.ts';

/**
 * Makes a VM's row true before a verb relies on it, and returns it. The VM's lock is held by the caller, so that
 * nobody else is at work on it: a state in “-ing” is what an operation left that could not undo itself, because
 * the disk was full, say. An interrupted `creating` or `deleting` is left as it is: deleting it is all there is to do.
 */
export async function settleVm(context: EngineContext, vm: Vm, operation: Operation): Promise<Vm> {
  switch (vm.state) {
    case 'creating':
    case 'deleting':
    case 'stopped':
      return vm;
    case 'stopping':
      // What its guest has not written yet must not go with it.
      if (hasVmm(context, vm)) return moveVm(context.db, vm.id, 'running');
      await forgetVmm(context, vm);
      return moveVm(context.db, vm.id, 'stopped', vm.lastError);
    case 'starting':
      operation.enter('Ending what was left of its VMM');
      await endVmm(context, vm);
      return moveVm(context.db, vm.id, 'stopped', vm.lastError);
    case 'running':
    case 'paused':
      if (hasVmm(context, vm)) return vm;
      await endVmm(context, vm);
      return moveVm(context.db, vm.id, 'stopped', 'The VMM ended by itself');
  }
}

/** Looks where the VMM was last seen, then everywhere: a live VM is never taken for a dead one. */
export function hasVmm(context: EngineContext, vm: Vm): boolean {
  const known = context.handles.get(vm.id)?.process;
  return (known && isAlive(known)) || findVmm(context, vm.id) !== undefined;
}
