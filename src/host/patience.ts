/** Somebody who is this much later than they meant to be did not run meanwhile: stopped, suspended, or starved. */
const standstillMs = 1_000;

/**
 * A timer for giving up on somebody else. Returns how to take it back.
 *
 * A process that was stopped or suspended finds its timers over before it has read what came meanwhile, and whoever
 * it waits for may have stood still with it. So a timer that fires much too late grants its time again.
 */
export function giveUpAfter(ms: number, giveUp: () => void): () => void {
  let timer: NodeJS.Timeout;
  const wait = (): void => {
    const due = performance.now() + ms;
    timer = setTimeout(() => (performance.now() - due > standstillMs ? wait() : giveUp()), ms);
  };
  wait();
  return () => clearTimeout(timer);
}

/** Who says something now and then may take so many times as long. */
const slowRounds = 4;

/**
 * The same for whoever may be slow, as a guest on a busy host is, and not silent: as long as `heard` has grown each time
 * when it would be over, they have more time, up to four times as much in all.
 */
export function giveUpOnSilence(ms: number, heard: () => number, giveUp: () => void): () => void {
  let last = heard();
  let takeBack: () => void;
  const wait = (round: number): void => {
    takeBack = giveUpAfter(ms, () => {
      const isSilent = heard() === last;
      last = heard();
      if (isSilent || round === slowRounds) giveUp();
      else wait(round + 1);
    });
  };
  wait(1);
  return () => takeBack();
}

/** The same for those who look again and again: time in which nobody looked does not count. */
export class Deadline {
  #lookedAt = performance.now();
  #end: number;

  constructor(ms: number) {
    this.#end = this.#lookedAt + ms;
  }

  /** To be asked each time round, after looking. */
  isOver(): boolean {
    const now = performance.now();
    const pause = now - this.#lookedAt;
    this.#lookedAt = now;
    if (pause > standstillMs) this.#end += pause;
    return now >= this.#end;
  }
}
