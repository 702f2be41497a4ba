/** Bytes in a piece of memory; what is kept is far shorter */
const pieceBytes = 256 * 1024;
/** Texts begin at multiples of this, so that 32 bits can tell where in 16 GiB one is */
const unit = 4;
/** In front of a text: how long it is, which is below 2^16 */
const headerBytes = 2;
/** From here on one call into Node costs less than a loop */
const copiedByLoop = 24;

/**
 * Byte strings (one character per byte), each known by a number, which is never 0.
 *
 * A string of V8 takes 16 bytes more than its characters, and a place to be named from. The room of a text that was
 * removed goes to the next one that takes as much.
 */
export class Texts {
  readonly #pieces: Buffer[] = [];
  /** In units: where the next text goes */
  #end = 1;
  /** By size in units: the text that was removed last, which begins with the number of the one removed before */
  readonly #removed: number[] = [];

  /** Room that nothing uses is held too. */
  get heldBytes(): number {
    return this.#end * unit;
  }

  add(text: string): number {
    const at = this.#take(Math.ceil((headerBytes + text.length) / unit));
    const piece = this.#pieceOf(at);
    const start = offsetOf(at);
    piece[start] = text.length & 0xff;
    piece[start + 1] = text.length >>> 8;
    if (text.length > copiedByLoop) piece.write(text, start + headerBytes, 'latin1');
    else
      for (let index = 0; index < text.length; index++)
        piece[start + headerBytes + index] = text.charCodeAt(index);
    return at;
  }

  remove(at: number): void {
    const size = Math.ceil((headerBytes + this.length(at)) / unit);
    this.#pieceOf(at).writeUInt32LE(this.#removed[size] ?? 0, offsetOf(at));
    this.#removed[size] = at;
  }

  length(at: number): number {
    const piece = this.#pieceOf(at);
    const start = offsetOf(at);
    return piece[start]! | (piece[start + 1]! << 8);
  }

  read(at: number): string {
    const start = offsetOf(at) + headerBytes;
    return this.#pieceOf(at).toString('latin1', start, start + this.length(at));
  }

  equals(at: number, text: string): boolean {
    const piece = this.#pieceOf(at);
    let position = offsetOf(at);
    if ((piece[position]! | (piece[position + 1]! << 8)) !== text.length) return false;
    position += headerBytes;
    for (let index = 0; index < text.length; index++)
      if (piece[position + index] !== text.charCodeAt(index)) return false;
    return true;
  }

  byteAt(at: number, index: number): number {
    return this.#pieceOf(at)[offsetOf(at) + headerBytes + index]!;
  }

  /** Copies a text into `target` from `position` on. */
  copy(at: number, target: Buffer, position: number): void {
    const length = this.length(at);
    const piece = this.#pieceOf(at);
    const start = offsetOf(at) + headerBytes;
    if (length > copiedByLoop) piece.copy(target, position, start, start + length);
    else for (let index = 0; index < length; index++) target[position + index] = piece[start + index]!;
  }

  /** Room for so many units, within one piece. */
  #take(size: number): number {
    const removed = this.#removed[size] ?? 0;
    if (removed !== 0) {
      this.#removed[size] = this.#pieceOf(removed).readUInt32LE(offsetOf(removed));
      return removed;
    }
    const left = pieceBytes / unit - (this.#end % (pieceBytes / unit));
    if (left < size) this.#end += left;
    const at = this.#end;
    this.#end += size;
    if (Math.floor((at * unit) / pieceBytes) === this.#pieces.length)
      this.#pieces.push(Buffer.alloc(pieceBytes));
    return at;
  }

  #pieceOf(at: number): Buffer {
    return this.#pieces[Math.floor((at * unit) / pieceBytes)]!;
  }
}

function offsetOf(at: number): number {
  return (at * unit) % pieceBytes;
}
