/** Bytes put together from chunks of any size. What is there already is not copied again for each of them. */
export class GrowingBuffer {
  #bytes: Buffer = Buffer.alloc(0);
  #length = 0;

  get length(): number {
    return this.#length;
  }

  append(chunk: Buffer): void {
    const needed = this.#length + chunk.length;
    if (needed > this.#bytes.length) {
      const larger = Buffer.allocUnsafe(Math.max(needed, 2 * this.#bytes.length));
      this.#bytes.copy(larger, 0, 0, this.#length);
      this.#bytes = larger;
    }
    chunk.copy(this.#bytes, this.#length);
    this.#length = needed;
  }

  /** What is there so far, to be looked at before the next `append`. */
  peek(): Buffer {
    return this.#bytes.subarray(0, this.#length);
  }

  /** Hands over what is there and begins anew. */
  take(): Buffer {
    const taken = this.peek();
    this.#bytes = Buffer.alloc(0);
    this.#length = 0;
    return taken;
  }
}
