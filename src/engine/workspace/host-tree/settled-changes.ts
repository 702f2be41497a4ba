import { setTimeout as sleep } from 'node:timers/promises';
import { abortError } from '../../../errors.ts';

/** Nothing is sent until a tree has been quiet for this long: a checkout or a build changes many files. */
const quietMs = 200;
/** But not later than this after the first change. */
const patienceMs = 2_000;

/** What has changed, and whether it is over. */
export class SettledChanges {
  readonly #signal: AbortSignal;
  #first: number | undefined;
  #last = 0;
  #failure: Error | undefined;
  #news = Promise.withResolvers<void>();

  constructor(signal: AbortSignal) {
    this.#signal = signal;
    signal.addEventListener('abort', () => this.#news.resolve(), { once: true });
  }

  /** What was noted so far has been seen to. */
  reset(): void {
    this.#first = undefined;
    if (!this.#signal.aborted && !this.#failure) this.#news = Promise.withResolvers();
  }

  note(): void {
    this.#last = performance.now();
    this.#first ??= this.#last;
    this.#news.resolve();
  }

  /** Whoever waits is told, now and later. */
  fail(error: Error): void {
    this.#failure ??= error;
    this.#news.resolve();
  }

  /** Waits for a change, or for as long as is given, and then until there have been none for a while. */
  async settled(retryMs?: number): Promise<void> {
    const timer = retryMs === undefined ? undefined : setTimeout(() => this.note(), retryMs);
    await this.#news.promise;
    clearTimeout(timer);
    for (;;) {
      if (this.#signal.aborted) throw abortError(this.#signal);
      if (this.#failure) throw this.#failure;
      const now = performance.now();
      const waitMs = Math.min(this.#last + quietMs - now, this.#first! + patienceMs - now);
      if (waitMs <= 0) return;
      await sleep(waitMs, undefined, { signal: this.#signal }).catch(() => undefined);
    }
  }
}
