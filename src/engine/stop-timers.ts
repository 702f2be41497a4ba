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

  constructor(context: () => EngineContext) {
    this.#context = context;
  }

  /** Begins to count for a VM that has started or was adopted. */
  async watch(vm: Vm): Promise<void> {
    this.#usedAt.set(vm.id, monotonicMs());
    const handles = this.#context().handles.get(vm.id);
    if (handles && vm.ttlMs !== undefined && handles.expiresAtMs === undefined) await this.#setExpiry(vm);
    this.#arm();
  }

  /** Takes over what was changed about a VM; a new time to live counts from now. */
  async change(vm: Vm, isNewTtl: boolean): Promise<void> {
    if (!this.#context().handles.get(vm.id)) return;
    if (isNewTtl) await this.#setExpiry(vm);
    this.#arm();
  }

  close(): void {
    clearTimeout(this.#timer);
    this.#usedAt.clear();
  }

  async #setExpiry(vm: Vm): Promise<void> {
    const { handles } = this.#context();
    const now = handles.get(vm.id);
    if (!now) return;
    const expiresAtMs = vm.ttlMs === undefined ? undefined : monotonicMs() + vm.ttlMs;
    await handles.set(vm.id, { ...now, expiresAtMs });
  }

  #arm(): void {
    clearTimeout(this.#timer);
    const next = Math.min(...[...this.#usedAt.keys()].map((id) => this.#dueAt(id)?.at ?? Infinity));
    if (next === Infinity) return;
    const wait = Math.min(Math.max(0, next - monotonicMs()), longestTimerMs);
    this.#timer = setTimeout(() => void this.#fire(), wait);
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
    const due = [...this.#usedAt.keys()].filter((id) => (this.#dueAt(id)?.at ?? Infinity) <= monotonicMs());
    await Promise.all(due.map((id) => this.#stopIfDue(id)));
    this.#arm();
  }

  async #stopIfDue(id: string): Promise<void> {
    const context = this.#context();
    const isDue = (): string | undefined => {
      const due = this.#dueAt(id);
      return due && due.at <= monotonicMs() ? due.why : undefined;
    };
    try {
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
      const handles = context.handles.get(id);
      if (handles?.expiresAtMs !== undefined)
        context.handles.adopt(id, { ...handles, expiresAtMs: monotonicMs() + retryMs });
      this.#usedAt.set(id, monotonicMs());
    }
  }

  /** A program that runs, or a connection that somebody else has to one of its ports, is use. */
  #noteUse(id: string): void {
    const context = this.#context();
    const ports = [
      context.handles.get(id)?.sshPort ?? 0,
      ...(findVm(context.db, id)?.ports ?? [])
        .filter(({ protocol }) => protocol === 'tcp')
        .map(({ hostPort }) => hostPort),
    ];
    if (context.guests.activity(id).isBusy || hasForeignConnection(ports))
      this.#usedAt.set(id, monotonicMs());
  }
}
