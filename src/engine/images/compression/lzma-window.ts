import { PackedRefusal } from './packed-refusal.ts';

/** More of what was unpacked than any kernel's or package's xz refers back to. */
export const maxDictionaryBytes = 128 * 1024 * 1024;
/** Room in front of each chunk; LZMA2 has none that is larger. */
const maxChunkBytes = 2 * 1024 * 1024;
/** What is copied at a time: takes a few milliseconds at most. */
const moveBytes = 8 * 1024 * 1024;
const pieceBytes = 256 * 1024;

/**
 * What was unpacked last: as much as matches may refer back to. A small file which asks for a large dictionary gets
 * addresses for it, and memory for what it writes.
 */
export class LzmaWindow {
  readonly #dictionaryBytes: number;
  readonly #bytes: Buffer;
  #end = 0;
  /** How far back the data reaches since the dictionary was reset; what is older is gone */
  #known = 0;
  /** Bytes since the dictionary was reset, as positions are counted */
  position = 0;

  constructor(dictionaryBytes: number) {
    this.#dictionaryBytes = dictionaryBytes;
    // Half as much again, so that moving everything to the front is rare. No page of it is there before it is written.
    this.#bytes = Buffer.allocUnsafeSlow(Math.ceil(dictionaryBytes * 1.5) + maxChunkBytes);
  }

  reset(): void {
    this.#known = 0;
    this.position = 0;
  }

  /** Makes room for the next chunk, whose bytes `taken` then gives. Others have their turn meanwhile. */
  async reserve(length: number): Promise<void> {
    if (this.#end + length <= this.#bytes.length) return;
    const keep = Math.min(this.#known, this.#dictionaryBytes);
    const from = this.#end - keep;
    for (let at = 0; at < keep; at += moveBytes) {
      this.#bytes.copy(this.#bytes, at, from + at, from + Math.min(at + moveBytes, keep));
      await new Promise(setImmediate);
    }
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

  /** Copies of the last bytes, in their order: the window itself is written over later. */
  *taken(length: number): Generator<Buffer> {
    for (let left = length; left > 0; left -= pieceBytes)
      yield Buffer.copyBytesFrom(this.#bytes, this.#end - left, Math.min(left, pieceBytes));
  }

  #advance(length: number): void {
    this.#end += length;
    this.#known += length;
    this.position += length;
  }
}
