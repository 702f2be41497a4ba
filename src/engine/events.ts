import { abortError } from '../errors.ts';
import type { RowChange } from '../state/row-changes.ts';

export const eventTypes = ['vm', 'image', 'workspace', 'operation', 'engine'] as const;

/** Something that has happened. Its keys are what `banger events --json` prints: they stay. */
export interface EngineEvent extends Omit<RowChange, 'type'> {
  /** RFC 3339, UTC */
  readonly time: string;
  readonly type: (typeof eventTypes)[number];
  /** Method of an operation, such as `vm.create` */
  readonly kind?: string;
  readonly seconds?: number;
  readonly error?: string;
  /** How many events are missing before the ones that follow, because whoever reads was too slow */
  readonly lost?: number;
}

export type NewEvent = Omit<EngineEvent, 'time'>;

/** How many events are remembered for `--since`, and how many a slow reader may be behind. */
const keepEvents = 1000;
/** Reasons may quote a guest's console. */
const maxTextLength = 1000;

/**
 * What happens in the engine, told to whoever listens, in order. VMs, images and workspaces are told of by their rows
 * (see `watchRows`), after the change was committed; the rest by `publish`.
 */
export class EventBus {
  readonly #listeners = new Set<(event: EngineEvent) => void>();
  readonly #past: EngineEvent[] = [];
  readonly #onError: (error: unknown) => void;

  /** `onError` hears of listeners that throw: it is never the publisher's fault. */
  constructor(onError: (error: unknown) => void) {
    this.#onError = onError;
  }

  publish(event: NewEvent): void {
    const whole: EngineEvent = {
      time: new Date().toISOString(),
      ...event,
      reason: event.reason?.slice(0, maxTextLength),
      error: event.error?.slice(0, maxTextLength),
    };
    this.#past.push(whole);
    if (this.#past.length > keepEvents) this.#past.shift();
    for (const listener of [...this.#listeners]) {
      try {
        listener(whole);
      } catch (error) {
        this.#onError(error);
      }
    }
  }

  /** Calls back with every event from now on, at once. Returns how to stop that. */
  subscribe(listener: (event: EngineEvent) => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  /** The next event that matches, from now on. Rejects when the signal fires. */
  next(matches: (event: EngineEvent) => boolean, signal: AbortSignal): Promise<EngineEvent> {
    return new Promise((resolve, reject) => {
      if (signal.aborted) return reject(abortError(signal));
      const stop = (): void => {
        unsubscribe();
        signal.removeEventListener('abort', onAbort);
      };
      const onAbort = (): void => {
        stop();
        reject(abortError(signal));
      };
      const unsubscribe = this.subscribe((event) => {
        if (!matches(event)) return;
        stop();
        resolve(event);
      });
      signal.addEventListener('abort', onAbort, { once: true });
    });
  }

  /** Remembered events from this time on (milliseconds since 1970), the oldest first. */
  since(time: number): readonly EngineEvent[] {
    return this.#past.filter((event) => Date.parse(event.time) >= time);
  }
}
