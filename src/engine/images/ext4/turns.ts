import { setImmediate } from 'node:timers/promises';

const turnMs = 15;

/**
 * Shares the event loop: code that works on many things in a row asks between
 * them, and everybody else gets a turn when it had the loop for long enough.
 * Awaiting what is already there does not give one.
 */
export class Turns {
  #since = performance.now();

  /** True when it is time to share; asking is all that most of the time has to be done */
  get isDue(): boolean {
    return performance.now() - this.#since >= turnMs;
  }

  async share(): Promise<void> {
    if (!this.isDue) return;
    await setImmediate();
    this.#since = performance.now();
  }
}
