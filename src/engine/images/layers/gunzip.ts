import { constants, createGunzip, type Gunzip } from 'node:zlib';
import { Turns } from '../ext4/turns.ts';

/** Fits the processor's cache together with what becomes of it */
const outputBytes = 256 * 1024;
const nothing = Buffer.alloc(0);

/** What Node's streams for zlib stand on. Not documented; npm's own tar stands on it too. */
interface ZlibHandle {
  writeSync(
    flush: number,
    input: Buffer,
    inputOffset: number,
    inputBytes: number,
    output: Buffer,
    outputOffset: number,
    outputBytes: number,
  ): void;
  onerror: (message: string, errno: number, code: string) => void;
}

interface ZlibInternals {
  readonly _handle: ZlibHandle;
  /** After a write: bytes that are left of the output, and of the input */
  readonly _writeState: Uint32Array;
}

/**
 * Unpacks gzip, of several members too; zeros behind the last one are left out. Every piece is valid until the next is
 * asked for: all of them are one buffer.
 *
 * Node's own stream has a new buffer for each piece. Memory that the kernel hands out anew page by page takes longer
 * to get than to fill, and the engine's allocator gives back at once what it does not need.
 */
export async function* gunzip(input: AsyncIterable<Buffer>): AsyncGenerator<Buffer> {
  const stream = createGunzip();
  try {
    const inflater = new Inflater(stream);
    const turns = new Turns();
    for await (const chunk of input) {
      for (let at = 0; at < chunk.length; await turns.share()) {
        const { piece, taken } = inflater.inflate(chunk.subarray(at), constants.Z_NO_FLUSH);
        at += taken;
        if (piece.length > 0) yield piece;
        if (piece.length === outputBytes) continue;
        // Room is left, and so is input: that is not gzip any more.
        if (at < chunk.length) return;
      }
    }
    for (let isFull = true; isFull;) {
      const { piece } = inflater.inflate(nothing, constants.Z_FINISH);
      if (piece.length > 0) yield piece;
      isFull = piece.length === outputBytes;
    }
  } finally {
    stream.close();
  }
}

class Inflater {
  readonly #handle: ZlibHandle;
  readonly #state: Uint32Array;
  readonly #output = Buffer.allocUnsafeSlow(outputBytes);
  #failure: Error | undefined;

  constructor(stream: Gunzip) {
    const { _handle: handle, _writeState: state } = stream as unknown as ZlibInternals;
    handle.onerror = (message, errno, code) => {
      this.#failure = Object.assign(new Error(message), { errno, code });
    };
    this.#handle = handle;
    this.#state = state;
  }

  /** Unpacks until the output is full or the input is used up. */
  inflate(input: Buffer, flush: number): { readonly piece: Buffer; readonly taken: number } {
    this.#handle.writeSync(flush, input, 0, input.length, this.#output, 0, outputBytes);
    if (this.#failure) throw this.#failure;
    const [room = 0, left = 0] = this.#state;
    return { piece: this.#output.subarray(0, outputBytes - room), taken: input.length - left };
  }
}
