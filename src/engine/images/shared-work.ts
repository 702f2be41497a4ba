import { abortError, BangerError } from '../../errors.ts';
import type { Operation, Progress } from '../operations.ts';

/** What shared work needs of those who wait for it. */
export type Waiter = Pick<Operation, 'id' | 'kind' | 'signal' | 'enter' | 'progress'>;

interface Flight<T> {
  readonly waiters: Set<Waiter>;
  readonly result: Promise<T>;
  readonly abort: AbortController;
  stage?: string;
  progress?: Omit<Progress, 'stage'>;
}

/**
 * Does the same work once for everybody who wants it at the same time.
 *
 * All see its progress. Whoever is cancelled leaves; the work itself is cancelled when nobody is left, and then the
 * last one waits until it has cleaned up.
 */
export class SharedWork<T> {
  readonly #flights = new Map<string, Flight<T>>();

  /** How many wait for it. */
  waiting(key: string): number {
    return this.#flights.get(key)?.waiters.size ?? 0;
  }

  async join(key: string, waiter: Waiter, work: (operation: Operation) => Promise<T>): Promise<T> {
    if (waiter.signal.aborted) throw abortError(waiter.signal);
    const current = this.#flights.get(key);
    const flight =
      current && !current.abort.signal.aborted ? current : this.#start(key, waiter, current, work);
    flight.waiters.add(waiter);
    if (flight.stage !== undefined) waiter.enter(flight.stage);
    if (flight.progress !== undefined) waiter.progress(flight.progress);

    const cancelled = Promise.withResolvers<'cancelled'>();
    const onAbort = (): void => cancelled.resolve('cancelled');
    waiter.signal.addEventListener('abort', onAbort, { once: true });
    try {
      const outcome = await Promise.race([flight.result.then((value) => ({ value })), cancelled.promise]);
      if (outcome !== 'cancelled') return outcome.value;
    } finally {
      waiter.signal.removeEventListener('abort', onAbort);
      flight.waiters.delete(waiter);
    }
    if (flight.waiters.size === 0) {
      flight.abort.abort(new BangerError('cancelled', 'Cancelled'));
      // Its outcome is nobody's business any more, only its end is.
      await flight.result.catch(() => undefined);
    }
    throw abortError(waiter.signal);
  }

  #start(
    key: string,
    first: Waiter,
    previous: Flight<T> | undefined,
    work: (operation: Operation) => Promise<T>,
  ): Flight<T> {
    const waiters = new Set<Waiter>();
    const abort = new AbortController();
    const operation: Operation = {
      id: first.id,
      kind: first.kind,
      signal: abort.signal,
      enter: (stage) => {
        Object.assign(flight, { stage, progress: undefined });
        for (const waiter of waiters) waiter.enter(stage);
      },
      progress: (progress) => {
        flight.progress = progress;
        for (const waiter of waiters) waiter.progress(progress);
      },
    };
    // One that was given up may still be cleaning up the very files this one is about to make.
    const ended = previous?.result.then(
      () => undefined,
      () => undefined,
    );
    const result = Promise.resolve(ended).then(() => work(operation));
    const flight: Flight<T> = { waiters, abort, result };
    this.#flights.set(key, flight);
    const forget = (): void => {
      if (this.#flights.get(key) === flight) this.#flights.delete(key);
    };
    result.then(forget, forget);
    return flight;
  }
}
