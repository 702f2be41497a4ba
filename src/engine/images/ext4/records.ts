/** Records in a piece of memory, as a power of two: some 200 KiB for those there are */
const pieceBits = 13;
const pieceMask = (1 << pieceBits) - 1;

/**
 * Records of whole numbers below 2^32, each known by its own number, which is never 0.
 *
 * They lie in pieces outside of V8's heap: growing copies nothing, nothing has to be collected, and what a record takes
 * is what is in it. Those that were removed are used again first.
 */
export class Records {
  readonly #width: number;
  readonly #pieces: Uint32Array[] = [];
  #end = 1;
  /** The record that was removed last, whose first number is the one removed before */
  #removed = 0;
  #count = 0;

  constructor(width: number) {
    this.#width = width;
  }

  /** How many there are. */
  get count(): number {
    return this.#count;
  }

  /** Those that were removed keep their memory. */
  get heldBytes(): number {
    return this.#end * this.#width * 4;
  }

  /** A new record, of zeros. */
  add(): number {
    this.#count++;
    const record = this.#removed;
    if (record !== 0) {
      this.#removed = this.get(record, 0);
      this.set(record, 0, 0);
      return record;
    }
    const { length } = this.#pieces;
    if (this.#end >>> pieceBits === length) this.#pieces.push(new Uint32Array(this.#width << pieceBits));
    return this.#end++;
  }

  remove(record: number): void {
    this.#count--;
    const from = (record & pieceMask) * this.#width;
    this.#pieces[record >>> pieceBits]!.fill(0, from, from + this.#width);
    this.set(record, 0, this.#removed);
    this.#removed = record;
  }

  get(record: number, field: number): number {
    return this.#pieces[record >>> pieceBits]![(record & pieceMask) * this.#width + field]!;
  }

  set(record: number, field: number, value: number): void {
    this.#pieces[record >>> pieceBits]![(record & pieceMask) * this.#width + field] = value;
  }
}
