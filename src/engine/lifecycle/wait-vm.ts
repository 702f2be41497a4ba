import { abortError, BangerError } from '../../errors.ts';
import { callAfter } from '../../host/long-timer.ts';
import { findVm, resolveVm, type Vm } from '../../state/vms.ts';
import type { EngineContext } from '../context.ts';
import type { Operation } from '../operations.ts';
import type { ParsedParams, ResultOf } from '../rpc/method.ts';
import type { vmWait } from '../rpc/vm-control-methods.ts';

type Waited = ResultOf<typeof vmWait>;

/**
 * Waits until a VM is what is asked for, and says what it is then. One that is deleted has stopped as well; for the
 * other states that is an error (`not_found`), since they will not come. Throws `timeout` when it takes too long.
 */
export async function waitForVm(
  context: EngineContext,
  params: ParsedParams<typeof vmWait>,
  operation: Operation,
): Promise<Waited> {
  const { id, name } = resolveVm(context.db, params.vm);
  const limit = new AbortController();
  const takeBack =
    params.timeoutMs === undefined ? undefined : callAfter(params.timeoutMs, () => limit.abort());
  const signal = AbortSignal.any([operation.signal, limit.signal]);
  operation.enter(`Waiting until ${name} is ${params.for}`);
  try {
    for (;;) {
      // Listening begins before looking, so that nothing happens in between.
      const listening = new AbortController();
      const change = context.events.next(
        (event) => event.type === 'vm' && event.id === id,
        AbortSignal.any([signal, listening.signal]),
      );
      change.catch(() => undefined);
      try {
        const answer = await look(context, { id, name, target: params.for }, signal);
        if (answer) return answer;
        await change;
      } finally {
        listening.abort();
      }
    }
  } catch (error) {
    if (operation.signal.aborted) throw abortError(operation.signal);
    if (!limit.signal.aborted) throw error;
    const state = findVm(context.db, id)?.state ?? 'deleted';
    throw new BangerError(
      'timeout',
      `VM "${name}" was not ${params.for} within ${params.timeoutMs! / 1000} s: it is ${state}`,
    );
  } finally {
    takeBack?.();
  }
}

async function look(
  context: EngineContext,
  what: { readonly id: string; readonly name: string; readonly target: Waited['state'] | 'ready' },
  signal: AbortSignal,
): Promise<Waited | undefined> {
  const { id, target } = what;
  const vm = findVm(context.db, id);
  if (!vm) {
    if (target === 'deleted' || target === 'stopped') return { id, name: what.name, state: 'deleted' };
    throw new BangerError('not_found', `VM "${what.name}" was deleted and will never be ${target}`);
  }
  const isThere = target === 'ready' ? await isReady(context, vm, signal) : vm.state === target;
  return isThere ? { id, name: vm.name, state: vm.state, reason: vm.lastError } : undefined;
}

async function isReady(context: EngineContext, vm: Vm, signal: AbortSignal): Promise<boolean> {
  if (vm.state !== 'running') return false;
  await context.guest(vm, signal);
  return true;
}
