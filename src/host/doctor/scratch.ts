import { BangerError } from '../../errors.ts';
import { exec } from '../exec.ts';
import {
  makeTrialPlace,
  removeLeftTrials,
  removeTrialPlace,
  removeTrialPlaceNow,
  type TrialPlace,
} from '../trial-place.ts';

/** Removes what diagnostics that were killed have left in some directories. What cannot be removed stays. */
export async function removeLeftScratches(parents: readonly string[]): Promise<void> {
  // Doctor is no worse for it.
  await removeLeftTrials(exec, parents, () => undefined);
}

/** Signals that would end us without a chance to tidy up. */
const endings = ['SIGTERM', 'SIGHUP'] as const;

/**
 * A directory for what diagnostics need for a moment, made when first asked for.
 *
 * Nothing of it stays, even when the user gives up in the middle: VMMs run in sessions of their own, and one
 * whose guest hangs would otherwise run for ever. Devices take their time to remove: those of a command that is
 * ended go with the next one, or the next engine.
 */
export class Scratch {
  readonly #parent: string;
  #place: TrialPlace | undefined;

  constructor(parent: string) {
    this.#parent = parent;
  }

  get directory(): string {
    return this.#made().directory;
  }

  /** What is made beside the directory's files is named after it. */
  get id(): string {
    return this.#made().id;
  }

  /** Removes the directory. None there counts as removed. */
  async remove(): Promise<void> {
    process.off('exit', this.#removeNow);
    for (const signal of endings) process.off(signal, this.#removeAndEnd);
    if (!this.#place) return;
    try {
      await removeTrialPlace(exec, this.#place.directory);
    } catch (error) {
      // A device that somebody holds: it was told where it was used, and whoever comes next tries again.
      if (!(error instanceof BangerError) || error.code !== 'busy') throw error;
    }
  }

  #made(): TrialPlace {
    if (!this.#place) {
      process.once('exit', this.#removeNow);
      for (const signal of endings) process.once(signal, this.#removeAndEnd);
      this.#place = makeTrialPlace(this.#parent, 'doctor');
    }
    return this.#place;
  }

  readonly #removeNow = (): void => {
    if (this.#place) removeTrialPlaceNow(this.#place.directory);
  };

  readonly #removeAndEnd = (signal: NodeJS.Signals): void => {
    this.#removeNow();
    // The handler is gone by now, so this one ends us the way the sender meant.
    process.kill(process.pid, signal);
  };
}
