/**
 * Cuts a stream of chunks into the pieces its reader asks for. Nothing is held beyond the chunk at hand, so that a
 * piece is valid until the next one is asked for, as chunks of the stream may be.
 */
export class ByteReader {
  readonly #chunks: AsyncIterator<Buffer>;
  #chunk: Buffer = Buffer.alloc(0);
  /** Bytes handed out so far */
  count = 0;

  constructor(source: AsyncIterable<Buffer>) {
    this.#chunks = source[Symbol.asyncIterator]();
  }

  /** The next bytes, at least one and at most `limit`; undefined at the end of the stream. */
  async some(limit: number): Promise<Buffer | undefined> {
    while (this.#chunk.length === 0) {
      const next = await this.#chunks.next();
      if (next.done) return undefined;
      this.#chunk = next.value;
    }
    const piece = this.#chunk.subarray(0, limit);
    this.#chunk = this.#chunk.subarray(piece.length);
    this.count += piece.length;
    return piece;
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
