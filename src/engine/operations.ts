import { BangerError, errorText } from '../errors.ts';
import { failpointNow, withFailpoints, type Failpoints } from './failpoints.ts';

/** What a client shows while it waits. */
export interface Progress {
  readonly stage: string;
  readonly detail?: string;
  /** Work done so far and in total, in the same unit; total is absent while unknown */
  readonly done?: number;
  readonly total?: number;
  readonly unit?: 'bytes' | 'files';
  /** Things that are worked on side by side, always all of them and in the same order */
  readonly parts?: readonly ProgressPart[];
}

/** What happens to a part, in the order in which it happens; one that was there before skips the download. */
export const partStates = [
  'waiting',
  'verifying',
  'downloading',
  'downloaded',
  'cached',
  'converting',
  'done',
] as const;
export type PartState = (typeof partStates)[number];

/** One of several things that an operation works on side by side, such as a layer. */
export interface ProgressPart {
  /** Short, and different from the others' */
  readonly name: string;
  readonly state: PartState;
  /** Bytes, of what the state says is being done; total is absent while unknown */
  readonly done?: number;
  readonly total?: number;
}

/** Seconds, rounded to milliseconds, that a finished stage took. */
export interface StageTiming {
  readonly stage: string;
  readonly seconds: number;
}

/** Work that a user waits for, from the side of the code that does it. */
export interface Operation {
  readonly id: string;
  readonly kind: string;
  /** Fires when the user cancels or the client that waits is gone */
  readonly signal: AbortSignal;
  /** Names what is being done now, and ends the stage before */
  enter(stage: string): void;
  /** Says how far the current stage is. Cheap: listeners are told at most every 100 ms, of what was said last. */
  progress(progress: Omit<Progress, 'stage'>): void;
}

/** The same operation for work that must finish, whoever has gone: clean-up is not cancelled with what it cleans up. */
export function uncancellable(operation: Operation, signal = new AbortController().signal): Operation {
  return {
    id: operation.id,
    kind: operation.kind,
    signal,
    enter: (stage) => operation.enter(stage),
    progress: (progress) => operation.progress(progress),
  };
}

/** An operation that can say how long its stages took. */
export interface TimedOperation extends Operation {
  /** Stages so far, the current one included */
  timings(): readonly StageTiming[];
}

export type OperationState = 'running' | 'done' | 'failed' | 'cancelled';

/** An operation as it can be listed. */
export interface OperationView {
  readonly id: string;
  readonly kind: string;
  readonly subject?: string;
  readonly state: OperationState;
  readonly progress?: Progress;
  readonly stages: readonly StageTiming[];
  readonly startedAt: string;
  readonly finishedAt?: string;
  readonly error?: string;
}

type Listener = (progress: Progress) => void;

/** How many finished operations are remembered. */
const keepFinished = 50;
const progressIntervalMs = 100;

/** Every operation under way, and the last ones that finished. */
export class OperationRegistry {
  readonly #running = new Map<string, RunningOperation>();
  readonly #finished: OperationView[] = [];
  readonly #idleWaiters = new Set<() => void>();
  readonly #failpoints: Failpoints | undefined;
  #counter = 0;

  constructor(failpoints?: Failpoints) {
    this.#failpoints = failpoints;
  }

  get runningCount(): number {
    return this.#running.size;
  }

  /** Runs a task as an operation; it stays listed for a while afterwards. */
  async run<T>(
    what: { kind: string; subject?: string; signal: AbortSignal; onProgress?: Listener },
    task: (operation: TimedOperation) => Promise<T>,
  ): Promise<T> {
    const id = `op-${process.pid.toString(36)}-${(++this.#counter).toString(36)}`;
    const operation = new RunningOperation(id, what);
    this.#running.set(id, operation);
    let state: OperationState = 'failed';
    let message: string | undefined;
    try {
      const result = await withFailpoints(this.#failpoints, operation, () => task(operation));
      state = 'done';
      return result;
    } catch (error) {
      message = errorText(error);
      if (error instanceof BangerError && error.code === 'cancelled') state = 'cancelled';
      throw error;
    } finally {
      this.#running.delete(id);
      this.#finished.push(operation.view(state, message));
      if (this.#finished.length > keepFinished) this.#finished.shift();
      if (this.#running.size === 0) for (const waiter of this.#idleWaiters) waiter();
    }
  }

  /** Running ones first, then finished ones, each oldest first. */
  list(): OperationView[] {
    return [...[...this.#running.values()].map((operation) => operation.view('running')), ...this.#finished];
  }

  /** Cancels what is under way; false when there is no such operation any more. */
  cancel(id: string): boolean {
    const operation = this.#running.get(id);
    operation?.cancel();
    return operation !== undefined;
  }

  /** Calls back whenever the last running operation ends. Returns how to stop that. */
  onIdle(callback: () => void): () => void {
    this.#idleWaiters.add(callback);
    return () => this.#idleWaiters.delete(callback);
  }
}

class RunningOperation implements TimedOperation {
  readonly id: string;
  readonly kind: string;
  readonly signal: AbortSignal;
  readonly #subject: string | undefined;
  readonly #listener: Listener | undefined;
  readonly #cancel = new AbortController();
  readonly #startedAt = new Date();
  readonly #stages: StageTiming[] = [];
  #progress: Progress | undefined;
  #stageStart = performance.now();
  #lastTold = 0;
  /** Set while listeners have yet to hear what was said last */
  #telling: NodeJS.Timeout | undefined;

  constructor(
    id: string,
    what: { kind: string; subject?: string; signal: AbortSignal; onProgress?: Listener },
  ) {
    this.id = id;
    this.kind = what.kind;
    this.#subject = what.subject;
    this.#listener = what.onProgress;
    this.signal = AbortSignal.any([what.signal, this.#cancel.signal]);
  }

  enter(stage: string): void {
    this.#closeStage();
    this.#progress = { stage };
    this.#tell();
    // What a stage begins with is worth showing at once.
    this.#lastTold = 0;
    failpointNow(`${stage}:before`);
  }

  progress(progress: Omit<Progress, 'stage'>): void {
    this.#progress = { stage: this.#progress?.stage ?? this.kind, ...progress };
    const waitMs = progressIntervalMs - (performance.now() - this.#lastTold);
    if (waitMs <= 0) this.#tell();
    else this.#telling ??= setTimeout(() => this.#tell(), waitMs).unref();
  }

  #tell(): void {
    clearTimeout(this.#telling);
    this.#telling = undefined;
    this.#lastTold = performance.now();
    if (this.#progress) this.#listener?.(this.#progress);
  }

  timings(): readonly StageTiming[] {
    const now = performance.now();
    const current = this.#progress && {
      stage: this.#progress.stage,
      seconds: Math.round(now - this.#stageStart) / 1000,
    };
    return current ? [...this.#stages, current] : [...this.#stages];
  }

  cancel(): void {
    this.#cancel.abort(new BangerError('cancelled', 'Cancelled'));
  }

  view(state: OperationState, error?: string): OperationView {
    if (state !== 'running') this.#closeStage();
    return {
      id: this.id,
      kind: this.kind,
      subject: this.#subject,
      state,
      progress: state === 'running' ? this.#progress : undefined,
      stages: [...this.#stages],
      startedAt: this.#startedAt.toISOString(),
      finishedAt: state === 'running' ? undefined : new Date().toISOString(),
      error,
    };
  }

  #closeStage(): void {
    // How a stage ended is part of the story.
    if (this.#telling) this.#tell();
    const now = performance.now();
    if (this.#progress) {
      this.#stages.push({ stage: this.#progress.stage, seconds: Math.round(now - this.#stageStart) / 1000 });
      this.#progress = undefined;
    }
    this.#stageStart = now;
  }
}
