import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';

/** Quiet for this long is rest: somebody who types commands one after the other is not made to wait. */
const settleMs = 5_000;
/** Less growth than this since the last time is not worth a collection of some 30 ms. */
const worthwhileBytes = 1024 * 1024;

type Collect = (options: { type: 'major'; execution: 'sync'; flavor: 'last-resort' }) => void;

/**
 * Gives memory back once the engine has come to rest.
 *
 * V8 collects garbage when something is allocated, so that an engine that has converted an image would sit on all
 * that it took for it until somebody asks for something else. One timer, set only after work.
 */
export class MemoryRest {
  readonly #isIdle: () => boolean;
  #collect: Collect | undefined;
  #timer: NodeJS.Timeout | undefined;
  #restingBytes = 0;

  constructor(isIdle: () => boolean, collect?: Collect) {
    this.#isIdle = isIdle;
    this.#collect = collect;
  }

  /** Work has ended: looks again when it has been quiet for a while. */
  look(): void {
    this.#timer ??= setTimeout(() => this.#rest(), settleMs);
    this.#timer.refresh();
  }

  close(): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
  }

  #rest(): void {
    if (!this.#isIdle() || process.memoryUsage.rss() < this.#restingBytes + worthwhileBytes) return;
    this.#collect ??= exposedCollector();
    this.#collect({ type: 'major', execution: 'sync', flavor: 'last-resort' });
    this.#restingBytes = process.memoryUsage.rss();
  }
}

/** Node hides V8's collector unless asked for it. Late: code caches made under other flags are not accepted. */
function exposedCollector(): Collect {
  setFlagsFromString('--expose-gc');
  return runInNewContext('gc') as Collect;
}
