/**
 * Cuts a stream of chunks into the pieces its reader asks for. Nothing is held beyond the chunk at hand, so that a
 * piece is valid until the next one is asked for, as chunks of the stream may be.
 */
export class ByteReader {
  readonly #chunks: AsyncIterator<Buffer>;
  #chunk: Buffer = Buffer.alloc(0);
  /** Where in the chunk it is */
  #at = 0;
  /** Bytes handed out so far */
  count = 0;

  constructor(source: AsyncIterable<Buffer>) {
    this.#chunks = source[Symbol.asyncIterator]();
  }

  /** The next `length` bytes when all of them are there, which they mostly are: then there is nothing to wait for. */
  atHand(length: number): Buffer | undefined {
    if (this.#chunk.length - this.#at < length) return undefined;
    const piece = this.#chunk.subarray(this.#at, this.#at + length);
    this.#at += length;
    this.count += length;
    return piece;
  }

  /** What is there of the next `limit` bytes; undefined when it is nothing. */
  someAtHand(limit: number): Buffer | undefined {
    const length = Math.min(limit, this.#chunk.length - this.#at);
    return length === 0 ? undefined : this.atHand(length);
  }

  /** Passes over what is there of the next `limit` bytes, and says how much that is. */
  skipAtHand(limit: number): number {
    const length = Math.min(limit, this.#chunk.length - this.#at);
    this.#at += length;
    this.count += length;
    return length;
  }

  /** The next bytes, at least one and at most `limit`; undefined at the end of the stream. */
  async some(limit: number): Promise<Buffer | undefined> {
    while (this.#chunk.length === this.#at) {
      const next = await this.#chunks.next();
      if (next.done) return undefined;
      this.#chunk = next.value;
      this.#at = 0;
    }
    return this.someAtHand(limit);
  }

  /** The next `length` bytes, or fewer if the stream ends. */
  async upTo(length: number): Promise<Buffer> {
    const first = await this.some(length);
    if (first === undefined || first.length === length) return first ?? Buffer.alloc(0);
    // The next chunk may come in the same memory.
    const pieces = [Buffer.from(first)];
    for (let left = length - first.length; left > 0;) {
      const piece = await this.some(left);
      if (!piece) break;
      pieces.push(Buffer.from(piece));
      left -= piece.length;
    }
    return Buffer.concat(pieces);
  }

  /** Lets the source clean up when its reader stops early. */
  async close(): Promise<void> {
    await this.#chunks.return?.();
  }
}
