import { abortError } from '../../../errors.ts';

/** Conversions at a time: each keeps up to 104 MiB of names and attributes, and has a thread. */
const most = 2;
/** Of those, conversions that wait for their layers to arrive: a slow download keeps nobody else waiting. */
const mostArriving = 1;

export interface TurnRequest {
  readonly signal: AbortSignal;
  /** Settles when all layers are here; absent when they are */
  readonly arrived?: Promise<unknown> | undefined;
  /** Called when the turn is not to be had at once */
  readonly onWait: () => void;
}

interface Turn {
  isArriving: boolean;
}

/** Lets few images be converted at once, first come first served, but for those whose layers are still on their way. */
export class ConversionTurns {
  readonly #running = new Set<Turn>();
  readonly #waiting = new Map<Turn, () => void>();

  /** Waits for a turn, which ends when it is disposed of. */
  async take({ signal, arrived, onWait }: TurnRequest): Promise<Disposable> {
    if (signal.aborted) throw abortError(signal);
    const turn: Turn = { isArriving: arrived !== undefined };
    const begun = Promise.withResolvers<void>();
    this.#waiting.set(turn, begun.resolve);
    const arrive = (): void => {
      turn.isArriving = false;
      this.#begin();
    };
    void arrived?.then(arrive, arrive);
    this.#begin();

    const onAbort = (): void => begun.reject(abortError(signal));
    signal.addEventListener('abort', onAbort, { once: true });
    try {
      if (this.#waiting.has(turn)) onWait();
      await begun.promise;
    } catch (error) {
      this.#end(turn);
      throw error;
    } finally {
      signal.removeEventListener('abort', onAbort);
    }
    return { [Symbol.dispose]: () => this.#end(turn) };
  }

  #begin(): void {
    for (const [turn, begin] of this.#waiting) {
      const arriving = [...this.#running].filter(({ isArriving }) => isArriving).length;
      if (this.#running.size >= most) return;
      if (turn.isArriving && arriving >= mostArriving) continue;
      this.#waiting.delete(turn);
      this.#running.add(turn);
      begin();
    }
  }

  #end(turn: Turn): void {
    this.#waiting.delete(turn);
    this.#running.delete(turn);
    this.#begin();
  }
}
