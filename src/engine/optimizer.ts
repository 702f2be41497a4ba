import { setFlagsFromString } from 'node:v8';

/** What is less, as the base image is, is done before compiled code has paid for itself. */
export const bulkBytes = 16 * 1024 ** 2;

/**
 * Keeps V8's optimizing compilers out, until there is work of the kind that they are for.
 *
 * Starting and stopping VMs is waiting: all that they do for it is take 5 MB of the executable into memory, which stay
 * there, and processor time while guests boot. V8 asks for these flags whenever a function has become hot, so that
 * they may change while code runs. Maglev goes with TurboFan: what it compiles without the other stays as it is.
 */
export function holdOptimizer(): void {
  setFlagsFromString('--no-maglev');
  setFlagsFromString('--no-turbofan');
}

/** Lets them in for good, in all threads: for whoever works through megabytes in JavaScript. */
export function admitOptimizer(): void {
  setFlagsFromString('--maglev');
  setFlagsFromString('--turbofan');
}

/** Lets them in once one piece of work has turned out to be of that kind. */
export class BulkMeter {
  #bytes = 0;

  note(bytes: number): void {
    const before = this.#bytes;
    this.#bytes += bytes;
    if (before <= bulkBytes && this.#bytes > bulkBytes) admitOptimizer();
  }
}
