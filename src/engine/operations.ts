import { BangerError, type ErrorCode } from '../errors.ts';
import { withFailpoints, type Failpoints } from './failpoints.ts';
import type { Progress } from './progress.ts';
import { RunningOperation } from './running-operation.ts';

export type { Progress, ProgressPart, PartState } from './progress.ts';

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
  /** Says what it is about, when that was not known at its start */
  about?(subject: string): void;
  /** Says that a step was taken back: whoever cancelled is told */
  undid?(step: string): void;
  /** Says a sentence that the user should read, while it goes on */
  note?(sentence: string): void;
}

/** The same operation for work that must finish, whoever has gone: clean-up is not cancelled with what it cleans up. */
export function uncancellable(operation: Operation, signal = new AbortController().signal): Operation {
  return {
    id: operation.id,
    kind: operation.kind,
    signal,
    enter: (stage) => operation.enter(stage),
    progress: (progress) => operation.progress(progress),
    about: (subject) => operation.about?.(subject),
    undid: (step) => operation.undid?.(step),
    note: (sentence) => operation.note?.(sentence),
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
  /** In order; of one that runs, the last is under way */
  readonly stages: StageTiming[];
  readonly startedAt: string;
  readonly finishedAt?: string;
  /** From its start to its end, or until now */
  readonly seconds: number;
  readonly error?: { readonly code: ErrorCode; readonly message: string; readonly hint?: string };
  /** Steps that were taken back because it failed or was cancelled, in that order */
  readonly undone: string[];
}

export type ProgressListener = (progress: Progress) => void;

export interface NewOperation {
  readonly kind: string;
  readonly subject?: string;
  readonly signal: AbortSignal;
  readonly onProgress?: ProgressListener;
  /** A short question, or somebody who only watches: not listed, nobody waits for its end */
  readonly isQuestion?: boolean;
}

/** How many finished operations are remembered, how many of one kind (a script may run thousands of `exec`), and for how long. */
const keepFinished = 100;
const keepFinishedOfKind = 20;
const keepFinishedMs = 60 * 60 * 1000;

/** Every operation under way, and the last ones that finished. */
export class OperationRegistry {
  readonly #running = new Map<string, RunningOperation>();
  readonly #questions = new Set<RunningOperation>();
  #finished: OperationView[] = [];
  readonly #idleWaiters = new Set<() => void>();
  readonly #failpoints: Failpoints | undefined;
  readonly #onChange: (view: OperationView) => void;
  readonly #explain: (error: unknown) => unknown;
  #counter = 0;

  /**
   * `onChange` hears of each operation, questions aside, when it starts and when it has ended. What an operation
   * throws goes through `explain` before anybody is told.
   */
  constructor(
    failpoints?: Failpoints,
    onChange: (view: OperationView) => void = () => undefined,
    explain: (error: unknown) => unknown = (error) => error,
  ) {
    this.#failpoints = failpoints;
    this.#onChange = onChange;
    this.#explain = explain;
  }

  /** Everything under way, questions included */
  get runningCount(): number {
    return this.#running.size + this.#questions.size;
  }

  /** The same without questions: what has something to undo */
  get workCount(): number {
    return this.#running.size;
  }

  /** Runs a task as an operation; it stays listed for a while afterwards. */
  async run<T>(what: NewOperation, task: (operation: TimedOperation) => Promise<T>): Promise<T> {
    const id = `op-${process.pid.toString(36)}-${(++this.#counter).toString(36)}`;
    const operation = new RunningOperation(id, what);
    if (what.isQuestion) return this.#ask(operation, task);
    this.#running.set(id, operation);
    this.#onChange(operation.view());
    try {
      const result = await withFailpoints(this.#failpoints, operation, () => task(operation));
      this.#finish(operation, operation.end());
      return result;
    } catch (thrown) {
      const error = this.#explain(thrown);
      this.#finish(operation, operation.end(error));
      throw error;
    }
  }

  /** Running ones first, then finished ones, each oldest first. */
  list(): OperationView[] {
    this.#forgetOld();
    return [...[...this.#running.values()].map((operation) => operation.view()), ...this.#finished];
  }

  /** The operation with this id, or an unambiguous beginning of it. */
  get(reference: string): OperationView {
    const all = this.list();
    const matches = all.filter(({ id }) => id === reference);
    if (matches.length === 0) matches.push(...all.filter(({ id }) => id.startsWith(reference)));
    if (matches.length === 1) return matches[0]!;
    if (matches.length > 1) {
      throw new BangerError(
        'invalid_argument',
        `"${reference}" could be any of ${matches.length} operations`,
        {
          hint: 'Give the whole id; list operations with: banger operation list',
        },
      );
    }
    throw new BangerError('not_found', `There is no operation "${reference}"`, {
      hint: 'Finished ones are forgotten after an hour, and when the engine ends. List operations with: banger operation list',
    });
  }

  /** Cancels what is under way; false when there is no such operation any more. */
  cancel(id: string): boolean {
    const operation = this.#running.get(id);
    operation?.cancel();
    return operation !== undefined;
  }

  /** Cancels everything because the engine ends. Whoever only watched is told so: what is watched may go on. */
  endAll(): void {
    for (const operation of this.#running.values())
      operation.cancel(new BangerError('cancelled', 'Cancelled: the engine was stopped'));
    for (const question of this.#questions) question.cancel(engineEnded());
  }

  /**
   * Follows an operation to its end and returns how it ended. The listener hears of its stages as the one who
   * started it does, beginning with the current one. Rejects when the signal fires; the operation goes on.
   */
  async watch(
    id: string,
    signal: AbortSignal,
    listener: ProgressListener = () => undefined,
  ): Promise<OperationView> {
    const operation = this.#running.get(id);
    if (!operation) return this.get(id);
    await operation.follow(listener, signal);
    return this.get(id);
  }

  /** Calls back whenever the last running operation ends. Returns how to stop that. */
  onIdle(callback: () => void): () => void {
    this.#idleWaiters.add(callback);
    return () => this.#idleWaiters.delete(callback);
  }

  async #ask<T>(operation: RunningOperation, task: (operation: TimedOperation) => Promise<T>): Promise<T> {
    this.#questions.add(operation);
    try {
      return await task(operation);
    } catch (error) {
      throw this.#explain(error);
    } finally {
      this.#questions.delete(operation);
      this.#tellIdle();
    }
  }

  #finish(operation: RunningOperation, view: OperationView): void {
    this.#running.delete(operation.id);
    this.#finished.push(view);
    const same = this.#finished.filter(({ kind }) => kind === view.kind);
    if (same.length > keepFinishedOfKind) this.#finished.splice(this.#finished.indexOf(same[0]!), 1);
    if (this.#finished.length > keepFinished) this.#finished.shift();
    operation.tellEnd();
    this.#onChange(view);
    this.#tellIdle();
  }

  #forgetOld(): void {
    const oldest = Date.now() - keepFinishedMs;
    this.#finished = this.#finished.filter(({ finishedAt }) => Date.parse(finishedAt!) >= oldest);
  }

  #tellIdle(): void {
    if (this.runningCount === 0) for (const waiter of this.#idleWaiters) waiter();
  }
}

function engineEnded(): BangerError {
  return new BangerError('invalid_state', 'The engine ended', {
    hint: 'VMs are not affected, and the next command starts it again: banger vm list',
  });
}
