import { PackedRefusal } from './packed-refusal.ts';

/** More of what was unpacked than any kernel's or package's xz refers back to. */
export const maxDictionaryBytes = 128 * 1024 * 1024;
/** Room in front of each chunk; LZMA2 has none that is larger. */
const maxChunkBytes = 2 * 1024 * 1024;
const firstBytes = 4 * 1024 * 1024;

/**
 * What was unpacked last: as much as matches may refer back to. It grows with the data, so that a small file which
 * asks for a large dictionary does not get it.
 */
export class LzmaWindow {
  readonly #dictionaryBytes: number;
  #bytes = Buffer.allocUnsafe(firstBytes);
  #end = 0;
  /** How far back the data reaches since the dictionary was reset; what is older is gone */
  #known = 0;
  /** Bytes since the dictionary was reset, as positions are counted */
  position = 0;

  constructor(dictionaryBytes: number) {
    this.#dictionaryBytes = dictionaryBytes;
  }

  reset(): void {
    this.#known = 0;
    this.position = 0;
  }

  /** Makes room for the next chunk, whose bytes `take` then returns. */
  reserve(length: number): void {
    if (this.#end + length <= this.#bytes.length) return;
    const keep = Math.min(this.#known, this.#dictionaryBytes);
    const needed = keep + length;
    // Half as much again, so that moving everything to the front is rare.
    const wanted = Math.min(needed * 2, Math.ceil(this.#dictionaryBytes * 1.5) + maxChunkBytes);
    const target = wanted > this.#bytes.length ? Buffer.allocUnsafe(Math.max(wanted, needed)) : this.#bytes;
    this.#bytes.copy(target, 0, this.#end - keep, this.#end);
    this.#bytes = target;
    this.#end = keep;
  }

  append(byte: number): void {
    this.#bytes[this.#end++] = byte;
    this.#known++;
    this.position++;
  }

  appendAll(bytes: Buffer): void {
    bytes.copy(this.#bytes, this.#end);
    this.#advance(bytes.length);
  }

  /** The byte that was appended `distance` + 1 ago; 0 where there is none, as for the very first literal. */
  byteAt(distance: number): number {
    return distance < this.#known ? this.#bytes[this.#end - 1 - distance]! : 0;
  }

  /** Appends what was appended `distance` + 1 ago, which may go on into what this very call appends. */
  repeat(distance: number, length: number): void {
    if (distance >= this.#known || distance >= this.#dictionaryBytes)
      throw new PackedRefusal('has damaged xz data: a match refers to bytes before the beginning');
    const bytes = this.#bytes;
    const from = this.#end - 1 - distance;
    for (let index = 0; index < length; index++) bytes[this.#end + index] = bytes[from + index]!;
    this.#advance(length);
  }

  /** A copy of the last bytes: the window itself is written over later. */
  take(length: number): Buffer {
    return Buffer.copyBytesFrom(this.#bytes, this.#end - length, length);
  }

  #advance(length: number): void {
    this.#end += length;
    this.#known += length;
    this.position += length;
  }
}
