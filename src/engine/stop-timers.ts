import { errorText } from '../errors.ts';
import { monotonicMs } from '../host/clock.ts';
import { hasForeignConnection } from '../host/tcp-connections.ts';
import { formatDuration } from '../state/units.ts';
import { findVm, type Vm } from '../state/vms.ts';
import type { EngineContext } from './context.ts';
import { withoutLocks } from './locks.ts';

/** setTimeout takes no more than 31 bits. */
const longestTimerMs = 2 ** 30;
const stopTimeoutMs = 10_000;
/** A VM that could not be stopped, or is in use without our doing, is looked at again no sooner than this. */
const retryMs = 10_000;

/**
 * Stops VMs whose time to live is over, and those that nobody has used for long enough, with their disks flushed.
 *
 * Time is the host's monotonic clock: setting the clock stops nothing, and a suspended host's VMs do not age. The end
 * of a time to live is kept with the handles, so that it outlives the engine; being unused counts afresh from the
 * start of an engine. One timer is set, for the next that is due.
 */
export class StopTimers {
  /** When each running VM was last known to be in use */
  readonly #usedAt = new Map<string, number>();
  readonly #context: () => EngineContext;
  #timer: NodeJS.Timeout | undefined;
  #isClosed = false;

  constructor(context: () => EngineContext) {
    this.#context = context;
  }

  /** Begins to count for a VM that has started or was adopted. */
  async watch(vm: Vm): Promise<void> {
    this.#usedAt.set(vm.id, monotonicMs());
    const { handles, log } = this.#context();
    const now = handles.get(vm.id);
    if (now && vm.ttlMs !== undefined && now.expiresAtMs === undefined) {
      const expiresAtMs = monotonicMs() + vm.ttlMs;
      try {
        await handles.update(vm.id, { expiresAtMs });
      } catch (error) {
        // The disk is full, say. It is no reason to let the VM live on; only the next engine would count afresh.
        log('warn', `the end of a time to live could not be written down: ${errorText(error)}`, {
          vm: vm.id,
        });
        handles.keep(vm.id, { expiresAtMs });
      }
    }
    this.#arm();
  }

  /** Takes over what was changed about a VM; a new time to live counts from now. */
  async change(vm: Vm, isNewTtl: boolean): Promise<void> {
    const { handles } = this.#context();
    if (!handles.get(vm.id)) return;
    if (isNewTtl) {
      const expiresAtMs = vm.ttlMs === undefined ? undefined : monotonicMs() + vm.ttlMs;
      await handles.update(vm.id, { expiresAtMs });
    }
    this.#arm();
  }

  close(): void {
    this.#isClosed = true;
    clearTimeout(this.#timer);
    this.#usedAt.clear();
  }

  #arm(): void {
    clearTimeout(this.#timer);
    const next = this.#nextAt();
    if (next === Infinity || this.#isClosed) return;
    const wait = Math.min(Math.max(0, next - monotonicMs()), longestTimerMs);
    // Never rejects.
    this.#timer = setTimeout(() => void this.#fire(), wait);
  }

  /** When the next is due. When that cannot be found out, now is not the time; a little later may be. */
  #nextAt(): number {
    try {
      return Math.min(...[...this.#usedAt.keys()].map((id) => this.#dueAt(id)?.at ?? Infinity));
    } catch (error) {
      this.#context().log('error', `which VM is to be stopped next is not known: ${errorText(error)}`);
      return monotonicMs() + retryMs;
    }
  }

  /** When a VM is to be stopped, and why. Undefined when it is not. */
  #dueAt(id: string): { readonly at: number; readonly why: string } | undefined {
    const context = this.#context();
    const vm = findVm(context.db, id);
    const handles = context.handles.get(id);
    if (!vm || !handles) {
      this.#usedAt.delete(id);
      return undefined;
    }
    const dues = [];
    if (handles.expiresAtMs !== undefined && vm.ttlMs !== undefined)
      dues.push({ at: handles.expiresAtMs, why: `Its time to live of ${formatDuration(vm.ttlMs)} was over` });
    if (vm.idleStopMs !== undefined) {
      const usedAt = Math.max(this.#usedAt.get(id) ?? 0, context.guests.activity(id).lastUsedMs);
      dues.push({
        at: usedAt + vm.idleStopMs,
        why: `Nobody had used it for ${formatDuration(vm.idleStopMs)}`,
      });
    }
    return dues.sort((one, other) => one.at - other.at)[0];
  }

  async #fire(): Promise<void> {
    // Each looks for itself whether it is due, and tells of what goes wrong.
    await Promise.all([...this.#usedAt.keys()].map((id) => this.#stopIfDue(id)));
    this.#arm();
  }

  async #stopIfDue(id: string): Promise<void> {
    const context = this.#context();
    const isDue = (): string | undefined => {
      const due = this.#dueAt(id);
      return due && due.at <= monotonicMs() ? due.why : undefined;
    };
    try {
      if (isDue() === undefined) return;
      this.#noteUse(id);
      const why = isDue();
      const vm = findVm(context.db, id);
      if (why === undefined || !vm) return;
      context.log('info', `stopping VM: ${why}`, { vm: id });
      const { stopVm } = await import('./lifecycle/stop-vm.ts');
      await withoutLocks(() =>
        context.operations.run(
          { kind: 'vm.auto-stop', subject: vm.name, signal: new AbortController().signal },
          (operation) => stopVm(context, { id, timeoutMs: stopTimeoutMs, because: isDue }, operation),
        ),
      );
      context.onVmsChanged();
    } catch (error) {
      context.log('error', `VM could not be stopped in time: ${errorText(error)}`, { vm: id });
      if (context.handles.get(id)?.expiresAtMs !== undefined)
        context.handles.keep(id, { expiresAtMs: monotonicMs() + retryMs });
      this.#usedAt.set(id, monotonicMs());
    }
  }

  /** A program that runs, or a connection that somebody else has to one of its ports or its address, is use. */
  #noteUse(id: string): void {
    const context = this.#context();
    const vm = findVm(context.db, id);
    const ports = [
      context.handles.get(id)?.sshPort ?? 0,
      ...(vm?.ports ?? []).filter(({ protocol }) => protocol === 'tcp').map(({ hostPort }) => hostPort),
    ];
    if (context.guests.activity(id).isBusy || hasForeignConnection({ ports, address: vm?.address }))
      this.#usedAt.set(id, monotonicMs());
  }
}
