import { readFile } from 'node:fs/promises';
import { errorText } from '../../errors.ts';
import type { GuestEnd } from '../../host/drivers/driver.ts';
import { isAlive, killProcess, waitForExit } from '../../host/process.ts';
import { vmPaths } from '../../state/layout.ts';
import { findVm, moveVm, type Vm } from '../../state/vms.ts';
import type { EngineContext } from '../context.ts';
import { withoutLocks } from '../locks.ts';
import { readVmLog } from '../vm-logs.ts';

/** After its control connection has closed, a VMM that still lives is given this long. */
const exitTimeoutMs = 5_000;

/**
 * Notices when a running VM's VMM ends by itself: guest powered off, panic, killed from outside. The state is
 * corrected under the VM's lock, unless a verb did it first.
 *
 * It listens on the VMM's control connection, which closes when the VMM ends, so that nobody has to poll.
 */
export function watchVmm(context: EngineContext, vm: Vm): void {
  void withoutLocks(() => follow(context, vm)).catch((error: unknown) =>
    context.log('error', `watching VM failed: ${errorText(error)}`, { vm: vm.id }),
  );
}

async function follow(context: EngineContext, vm: Vm): Promise<void> {
  const process = context.handles.get(vm.id)?.process;
  if (!process) return;
  const control = await context
    .driver()
    .control(vm.controlSocket)
    .catch(() => undefined);
  if (control) context.controls.set(vm.id, control);
  const end = await control?.closed;
  if (control && context.controls.get(vm.id) === control) context.controls.delete(vm.id);
  // Without a control connection (its socket is gone, say) the process itself is all there is to look at.
  while (!control && isAlive(process)) await waitForExit(process, exitTimeoutMs);
  await waitForExit(process, exitTimeoutMs);

  await context.locks.vm.run(vm.id, new AbortController().signal, async () => {
    const current = context.handles.get(vm.id)?.process;
    const isSame = current?.pid === process.pid && current.startTime === process.startTime;
    if (!isSame) return;
    if (isAlive(process)) await killProcess(process);
    context.guests.drop(vm.id);
    await context.handles.clear(vm.id);
    const state = findVm(context.db, vm.id)?.state;
    if (state !== 'running' && state !== 'paused') return;
    const reason = await reasonText(context, vm, end);
    moveVm(context.db, vm.id, 'stopped', reason);
    context.log('info', `VM ended by itself: ${reason ?? 'powered off from inside'}`, { vm: vm.id });
    context.onVmsChanged();
  });
}

/** Undefined for a plain power-off from inside, which is nobody's error. */
async function reasonText(
  context: EngineContext,
  vm: Vm,
  end: GuestEnd | undefined,
): Promise<string | undefined> {
  if (end === 'power-off') return undefined;
  if (end === 'reset' && !(await hasPanicked(context, vm))) {
    return `The guest rebooted, which ends its VM; start it again with: banger vm start ${vm.name}`;
  }
  if (end === 'reset' || end === 'panic') {
    return `The guest's kernel panicked; its console: banger vm logs ${vm.name}`;
  }
  const words = await readFile(vmPaths(context.layout, vm.id).vmmLog, 'utf8').catch(() => '');
  const lastLine = words.trim().split('\n').at(-1);
  return `The VMM ended by itself${lastLine ? `: ${lastLine}` : ' (killed from outside, or crashed)'}`;
}

const consoleTailBytes = 64 * 1024;

/** A guest that panics resets itself (panic=-1), so that only its console tells it from one that was rebooted. */
async function hasPanicked(context: EngineContext, vm: Vm): Promise<boolean> {
  const { content } = await readVmLog(context.layout, {
    id: vm.id,
    source: 'console',
    maxBytes: consoleTailBytes,
  });
  return content.includes('Kernel panic');
}
