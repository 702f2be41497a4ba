import { setTimeout as sleep } from 'node:timers/promises';
import { errorText } from '../../errors.ts';
import type { GuestEnd, VmmControl } from '../../host/drivers/driver.ts';
import { BoundedLog } from '../../host/bounded-log.ts';
import { lastWords, openVmmLog } from '../../host/drivers/vmm-process.ts';
import { countOomKills } from '../../host/oom-kills.ts';
import { isAlive, waitForExit, waitUntilReaped, type ProcessIdentity } from '../../host/process.ts';
import { vmPaths } from '../../state/layout.ts';
import { findVm, moveVm, type Vm } from '../../state/vms.ts';
import type { EngineContext } from '../context.ts';
import { withoutLocks } from '../locks.ts';
import { forgetVmm } from './boot-vm.ts';
import { vmmDeathText } from './vmm-death.ts';
import { matchActivity } from './guest-activity.ts';
import { matchForwards } from './published-ports.ts';
import { diskFile } from './root-disk.ts';

/** After its control connection has closed, a VMM is given this long to end. */
const exitTimeoutMs = 5_000;
/** Then it is connected to again, and if that cannot be, again after this long. */
const reopenMs = 10_000;

/**
 * Notices when a running VM's VMM ends by itself: guest powered off, panic, killed from outside. The state is
 * corrected under the VM's lock, unless a verb did it first.
 *
 * It listens on the VMM's control connection, which closes when the VMM ends, so that nobody has to poll.
 */
export function watchVmm(context: EngineContext, vm: Vm, patience = { exitTimeoutMs }): void {
  void withoutLocks(() => follow(context, vm, patience)).catch((error: unknown) =>
    context.log('error', `watching VM failed: ${errorText(error)}`, { vm: vm.id }),
  );
}

async function follow(
  context: EngineContext,
  vm: Vm,
  patience: { readonly exitTimeoutMs: number },
): Promise<void> {
  const process = context.handles.get(vm.id)?.process;
  if (!process) return;
  context.stopTimers
    .watch(vm)
    .catch((error: unknown) =>
      context.log('error', `a VM's time is not counted: ${errorText(error)}`, { vm: vm.id }),
    );
  // Not waited for: who comes next must find the control connection being opened.
  const counting = countOomKills();
  let end: GuestEnd | undefined;
  for (let isBack = false; isAlive(process); isBack = true) {
    const control = await openControl(context, vm, process);
    // Not waited for: whoever has the VM's lock may need this connection.
    if (control && isBack) void catchUp(context, vm);
    end = await control?.closed;
    if (await waitForExit(process, patience.exitTimeoutMs)) break;
    // A VMM that lives on has lost its connection only. It holds the guest's unwritten data, so it is not ended.
    context.log('warn', 'the control connection to a VMM was lost', { vm: vm.id });
    if (!control) await sleep(reopenMs);
  }

  await waitUntilReaped(process);
  await context.locks.vm.run(vm.id, new AbortController().signal, async () => {
    const current = context.handles.get(vm.id)?.process;
    const isSame = current?.pid === process.pid && current.startTime === process.startTime;
    if (!isSame) return;
    context.guests.drop(vm.id);
    await forgetVmm(context, vm);
    const state = findVm(context.db, vm.id)?.state;
    if (state !== 'running' && state !== 'paused') return;
    const reason = await reasonText(context, vm, { end, oomKillsBefore: await counting });
    moveVm(context.db, vm.id, 'stopped', reason);
    context.log('info', `VM ended by itself: ${reason ?? 'powered off from inside'}`, { vm: vm.id });
    context.onVmsChanged();
  });
}

async function openControl(
  context: EngineContext,
  vm: Vm,
  process: ProcessIdentity,
): Promise<VmmControl | undefined> {
  const { consoleLog, vmmLog } = vmPaths(context.layout, vm.id);
  const disk = diskFile(context, vm);
  const { controlSocket } = vm;
  const driver = context.driver(context.handles.get(vm.id)?.driver ?? 'qemu');
  const opening = driver.control({ process, controlSocket, consoleLog, vmmLog, disk });
  context.controls.set(vm.id, opening);
  const forget = (): void => {
    if (context.controls.get(vm.id) === opening) context.controls.delete(vm.id);
  };
  try {
    const control = await opening;
    control.onActivity(() => void withoutLocks(() => matchActivity(context, vm.id)));
    void control.closed.then(forget);
    return control;
  } catch (error) {
    context.log('warn', `the VMM's control socket does not answer: ${errorText(error)}`, { vm: vm.id });
    forget();
    return undefined;
  }
}

/** Tells a VMM that was away what was changed meanwhile. Never rejects. */
async function catchUp(context: EngineContext, { id }: Vm): Promise<void> {
  try {
    await context.locks.vm.run(id, new AbortController().signal, async () => {
      const vm = findVm(context.db, id);
      if (vm?.state === 'running' || vm?.state === 'paused') await matchForwards(context, vm);
    });
  } catch (error) {
    context.log('error', `published ports could not be set right: ${errorText(error)}`, { vm: id });
  }
}

/** Undefined for a plain power-off from inside, which is nobody's error. */
async function reasonText(
  context: EngineContext,
  vm: Vm,
  { end, oomKillsBefore }: { readonly end: GuestEnd | undefined; readonly oomKillsBefore: number },
): Promise<string | undefined> {
  if (end === 'power-off') return undefined;
  if (end === 'reset' && !hasPanicked(context, vm)) {
    return `The guest rebooted, which ends its VM; start it again with: banger vm start ${vm.name}`;
  }
  if (end === 'reset' || end === 'panic') {
    return `The guest's kernel panicked; its console: banger vm logs ${vm.name}`;
  }
  const words = openVmmLog(vmPaths(context.layout, vm.id).vmmLog).tail(vmmTailBytes).toString();
  return vmmDeathText({
    lastLine: lastWords(words),
    signal: context.vmmSignals.get(vm.id),
    oomKills: (await countOomKills()) - oomKillsBefore,
    memoryMib: context.handles.get(vm.id)?.memoryMib ?? vm.memoryMib,
  });
}

const vmmTailBytes = 4096;
const consoleTailBytes = 64 * 1024;

/** A guest that panics resets itself (panic=-1), so that only its console tells it from one that was rebooted. */
function hasPanicked(context: EngineContext, vm: Vm): boolean {
  const console = new BoundedLog(vmPaths(context.layout, vm.id).consoleLog);
  return console.tail(consoleTailBytes).includes('Kernel panic');
}
