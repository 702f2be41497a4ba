import { callAfter } from '../host/long-timer.ts';

export interface IdleRules {
  readonly timeoutMs: () => number;
  /** Asked when the time is up, and whenever something changed */
  readonly isIdle: () => boolean;
}

/** Ends the engine when it has had nothing to do for long enough. One timer, set only while nothing is going on. */
export class IdleTimer {
  readonly #onIdle: () => void;
  #rules: IdleRules | undefined;
  #takeBack: (() => void) | undefined;
  #clients = 0;

  constructor(onIdle: () => void) {
    this.#onIdle = onIdle;
  }

  start(rules: IdleRules): void {
    this.#rules = rules;
    this.look();
  }

  setClients(count: number): void {
    this.#clients = count;
    this.look();
  }

  /** Something may have changed: starts the time afresh when nothing is going on, else stops it. */
  look(): void {
    this.#takeBack?.();
    const rules = this.#rules;
    if (!rules || this.#clients > 0 || !rules.isIdle()) return;
    this.#takeBack = callAfter(rules.timeoutMs(), () => {
      if (this.#clients === 0 && rules.isIdle()) this.#onIdle();
    });
  }

  close(): void {
    this.#takeBack?.();
    this.#rules = undefined;
  }
}
