/**
 * Frames of `guest/datagrams.c`: two bytes for whose datagram it is, two for its length (little-endian both), and its
 * content. The length `over` says that nothing more comes for, or from, that one; the guest sends it back.
 */
export const maxOthers = 256;
const headerBytes = 4;
const longest = 65_507;
const over = 65_535;

export function datagramFrame(other: number, datagram: Buffer): readonly Buffer[] {
  return [header(other, datagram.length), datagram];
}

export function overFrame(other: number): Buffer {
  return header(other, over);
}

function header(other: number, length: number): Buffer {
  const bytes = Buffer.alloc(headerBytes);
  bytes.writeUInt16LE(other, 0);
  bytes.writeUInt16LE(length, 2);
  return bytes;
}

/** Takes frames out of what a guest says, in whatever pieces it comes. */
export class DatagramFrames {
  #rest: Buffer = Buffer.alloc(0);
  readonly #onFrame: (other: number, datagram: Buffer | 'over') => void;

  constructor(onFrame: (other: number, datagram: Buffer | 'over') => void) {
    this.#onFrame = onFrame;
  }

  /** Throws when that is none. */
  push(chunk: Buffer): void {
    const bytes = this.#rest.length === 0 ? chunk : Buffer.concat([this.#rest, chunk]);
    let at = 0;
    while (bytes.length - at >= headerBytes) {
      const other = bytes.readUInt16LE(at);
      const length = bytes.readUInt16LE(at + 2);
      if (other >= maxOthers || (length > longest && length !== over))
        throw new Error('the guest sends what are no frames');
      const end = at + headerBytes + (length === over ? 0 : length);
      if (bytes.length < end) break;
      this.#onFrame(other, length === over ? 'over' : bytes.subarray(at + headerBytes, end));
      at = end;
    }
    this.#rest = bytes.subarray(at);
  }
}
