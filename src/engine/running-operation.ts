import { abortError, BangerError, errorText } from '../errors.ts';
import { failpointNow } from './failpoints.ts';
import { noteStage } from './rpc/note-stage.ts';
import type {
  NewOperation,
  OperationView,
  Progress,
  ProgressListener,
  StageTiming,
  TimedOperation,
} from './operations.ts';

const progressIntervalMs = 100;
/** More than any operation has; one that enters stages in a loop must not grow for ever. */
const maxStages = 1000;

/** An operation while it runs: made by the registry, handed to the code that does the work. */
export class RunningOperation implements TimedOperation {
  readonly id: string;
  readonly kind: string;
  readonly signal: AbortSignal;
  #subject: string | undefined;
  readonly #listeners = new Set<ProgressListener>();
  readonly #cancel = new AbortController();
  readonly #startedAt = new Date();
  readonly #start = performance.now();
  readonly #stages: StageTiming[] = [];
  readonly #undone: string[] = [];
  readonly #ended = Promise.withResolvers<void>();
  #progress: Progress | undefined;
  #stageStart = performance.now();
  #lastTold = 0;
  /** Set while listeners have yet to hear what was said last */
  #telling: NodeJS.Timeout | undefined;

  constructor(id: string, what: NewOperation) {
    this.id = id;
    this.kind = what.kind;
    this.#subject = what.subject;
    if (what.onProgress) this.#listeners.add(what.onProgress);
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

  about(subject: string): void {
    this.#subject = subject;
  }

  undid(step: string): void {
    this.#undone.push(step);
    for (const listener of this.#listeners) listener({ stage: 'Undone', detail: step });
  }

  note(sentence: string): void {
    for (const listener of this.#listeners) listener({ stage: noteStage, detail: sentence });
  }

  timings(): readonly StageTiming[] {
    return this.#progress ? [...this.#stages, this.#currentStage(this.#progress)] : [...this.#stages];
  }

  cancel(why = new BangerError('cancelled', 'Cancelled')): void {
    this.#cancel.abort(why);
  }

  /** Tells the current stage and those that follow, until the end. Rejects when the signal fires. */
  async follow(listener: ProgressListener, signal: AbortSignal): Promise<void> {
    if (signal.aborted) throw abortError(signal);
    const aborted = Promise.withResolvers<never>();
    const onAbort = (): void => aborted.reject(abortError(signal));
    signal.addEventListener('abort', onAbort, { once: true });
    this.#listeners.add(listener);
    if (this.#progress) listener(this.#progress);
    try {
      await Promise.race([this.#ended.promise, aborted.promise]);
    } finally {
      this.#listeners.delete(listener);
      signal.removeEventListener('abort', onAbort);
    }
  }

  view(): OperationView {
    return {
      id: this.id,
      kind: this.kind,
      subject: this.#subject,
      state: 'running',
      progress: this.#progress,
      stages: [...this.timings()],
      startedAt: this.#startedAt.toISOString(),
      seconds: secondsSince(this.#start),
      undone: [...this.#undone],
    };
  }

  /** Closes the last stage and says how it all ended: well, unless there is an error. */
  end(...failure: [error?: unknown]): OperationView {
    this.#closeStage();
    const finished = { ...this.view(), finishedAt: new Date().toISOString() };
    if (failure.length === 0) return { ...finished, state: 'done' };
    const [error] = failure;
    const isAbort = this.signal.aborted && error instanceof Error && error.name === 'AbortError';
    const isCancelled = isAbort || (error instanceof BangerError && error.code === 'cancelled');
    return { ...finished, state: isCancelled ? 'cancelled' : 'failed', error: errorView(error) };
  }

  /** Those who follow are told once the registry knows how it ended. */
  tellEnd(): void {
    this.#ended.resolve();
  }

  #tell(): void {
    clearTimeout(this.#telling);
    this.#telling = undefined;
    this.#lastTold = performance.now();
    if (this.#progress) for (const listener of this.#listeners) listener(this.#progress);
  }

  #closeStage(): void {
    // How a stage ended is part of the story.
    if (this.#telling) this.#tell();
    if (this.#progress && this.#stages.length < maxStages)
      this.#stages.push(this.#currentStage(this.#progress));
    this.#progress = undefined;
    this.#stageStart = performance.now();
  }

  #currentStage({ stage }: Progress): StageTiming {
    return { stage, seconds: secondsSince(this.#stageStart) };
  }
}

function secondsSince(start: number): number {
  return Math.round(performance.now() - start) / 1000;
}

function errorView(error: unknown): OperationView['error'] {
  if (!(error instanceof BangerError)) return { code: 'internal', message: errorText(error) };
  return { code: error.code, message: error.message, hint: error.hint };
}
