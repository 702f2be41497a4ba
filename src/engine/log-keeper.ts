import { errorText } from '../errors.ts';
import { BoundedLog, type LogOptions } from '../host/bounded-log.ts';
import { standardErrorPath, vmmLogOptions } from '../host/drivers/vmm-process.ts';
import { watchOnce } from '../host/watch-file.ts';
import { vmPaths, type Layout } from '../state/layout.ts';
import { listVms } from '../state/vms.ts';
import type { EngineContext } from './context.ts';
import type { Log } from './log.ts';

/** How long after a log has begun to grow it is looked at: what it may grow beyond its limit. */
const lookAfterMs = 1_500;

export interface LogKeeperOptions {
  /** Beyond this a log is cut */
  readonly limitBytes: () => number;
  readonly log: Log;
  readonly lookAfterMs?: number;
}

interface Kept {
  readonly log: BoundedLog;
  isWatched: boolean;
  /** Stops what it waits for: a change of the file, or the time to look */
  stopWaiting: () => void;
}

/**
 * Keeps logs that other processes write from growing without bound.
 *
 * A log that nobody writes to costs nothing: the kernel tells of the first change, and after a while the log is
 * looked at, once. There are no timers at rest.
 */
export class LogKeeper {
  readonly #options: LogKeeperOptions;
  readonly #kept = new Map<string, Kept>();

  constructor(options: LogKeeperOptions) {
    this.#options = options;
  }

  /** From now on the log at this path is cut when it is too long, at once if it is so already. */
  keep(path: string, options?: LogOptions): void {
    const kept = this.#entry(path, options);
    if (kept.isWatched) return;
    kept.isWatched = true;
    this.#look(kept);
  }

  /** The log at a path that is kept, or will be, for whoever reads along. */
  shared(path: string, options?: LogOptions): BoundedLog {
    return this.#entry(path, options).log;
  }

  /** Leaves the log at this path alone: its writer has ended. */
  drop(path: string): void {
    const kept = this.#kept.get(path);
    if (!kept) return;
    this.#kept.delete(path);
    kept.isWatched = false;
    kept.stopWaiting();
  }

  close(): void {
    for (const path of [...this.#kept.keys()]) this.drop(path);
  }

  #entry(path: string, options?: LogOptions): Kept {
    let kept = this.#kept.get(path);
    if (!kept) {
      kept = { log: new BoundedLog(path, options), isWatched: false, stopWaiting: () => undefined };
      this.#kept.set(path, kept);
    }
    return kept;
  }

  #look(kept: Kept): void {
    // Waits for the next change before it looks, so that none is missed in between.
    this.#wait(kept);
    kept.log.cut(this.#options.limitBytes()).catch((error: unknown) =>
      this.#options.log('warn', `the end of a log that was cut could not be kept: ${errorText(error)}`, {
        path: kept.log.path,
      }),
    );
  }

  #wait(kept: Kept): void {
    kept.stopWaiting =
      watchOnce(kept.log.path, () => {
        if (!kept.isWatched) return;
        const timer = setTimeout(() => this.#look(kept), this.#options.lookAfterMs ?? lookAfterMs).unref();
        kept.stopWaiting = () => clearTimeout(timer);
      }) ?? (() => undefined);
  }
}

/** Keeps the logs of VMs while they run, those that run already and those that will. */
export function keepVmLogs({ db, layout, events, logs }: LogContext): void {
  const keepAll = (id: string): void =>
    vmLogs(layout, id).forEach(({ path, options }) => logs.keep(path, options));
  events.subscribe(({ type, id, state, action }) => {
    if (type !== 'vm') return;
    if (action === 'stopped' || action === 'deleted')
      vmLogs(layout, id).forEach(({ path }) => logs.drop(path));
    else if (state === 'running') keepAll(id);
  });
  for (const { id, state } of listVms(db)) {
    if (state === 'running' || state === 'paused' || state === 'stopping') keepAll(id);
  }
}

type LogContext = Pick<EngineContext, 'db' | 'layout' | 'events' | 'logs'>;

function vmLogs(layout: Layout, id: string): readonly { path: string; options?: LogOptions }[] {
  const { consoleLog, vmmLog } = vmPaths(layout, id);
  return [
    { path: consoleLog },
    { path: vmmLog, options: vmmLogOptions },
    { path: standardErrorPath(vmmLog) },
  ];
}
