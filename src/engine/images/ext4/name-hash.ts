import { randomFillSync } from 'node:crypto';
import { maxNameLength } from './format.ts';

/**
 * Hashes names in directories, by random numbers of its own: Dietzfelbinger's multiply-shift scheme for vectors, of
 * which at most the upper 25 bits may be used. Two different names meet no more often than by chance, whatever names
 * somebody picks who does not know the numbers. No name has zero bytes, and so one is not the beginning of another.
 */
export class NameHash {
  readonly #factors = randomFillSync(new Int32Array(maxNameLength));
  readonly #directoryFactors = randomFillSync(new Int32Array(4));

  /** `length` bytes of a name, of which `byteAt` tells. */
  of(directory: number, name: string): number {
    const factors = this.#factors;
    let hash = this.#ofDirectory(directory);
    for (let index = 0; index < name.length; index++)
      hash = (hash + Math.imul(factors[index]!, name.charCodeAt(index))) | 0;
    return hash >>> 0;
  }

  /** The same for one whose bytes are told one by one. */
  ofBytes(directory: number, length: number, byteAt: (index: number) => number): number {
    const factors = this.#factors;
    let hash = this.#ofDirectory(directory);
    for (let index = 0; index < length; index++)
      hash = (hash + Math.imul(factors[index]!, byteAt(index))) | 0;
    return hash >>> 0;
  }

  #ofDirectory(directory: number): number {
    const [a = 0, b = 0, c = 0, d = 0] = this.#directoryFactors;
    return (
      (Math.imul(a, directory & 0xff) +
        Math.imul(b, (directory >>> 8) & 0xff) +
        Math.imul(c, (directory >>> 16) & 0xff) +
        Math.imul(d, directory >>> 24)) |
      0
    );
  }
}
