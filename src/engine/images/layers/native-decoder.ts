import { constants, createGunzip, createZstdDecompress, type Gunzip, type ZstdDecompress } from 'node:zlib';
import { Turns } from '../ext4/turns.ts';

/** Fits the processor's cache together with what becomes of it */
const outputBytes = 256 * 1024;
const nothing = Buffer.alloc(0);

/** What Node's streams for zlib and zstd stand on. Not documented; npm's own tar stands on it too. */
interface DecoderHandle {
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

interface DecoderInternals {
  readonly _handle: DecoderHandle;
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
  yield* unpacked(createGunzip(), input, {
    more: constants.Z_NO_FLUSH,
    end: constants.Z_FINISH,
    // Zeros; anything else is damage.
    hasEndedWhenItLeavesInput: true,
  });
}

/**
 * The same for zstd, of all frames: tools that write seekable layers make many. Node's own stream ends after the first
 * one whose end is not the end of a write, and a new stream for each of a million small ones would take minutes.
 */
export async function* unzstd(input: AsyncIterable<Buffer>): AsyncGenerator<Buffer> {
  yield* unpacked(createZstdDecompress(), input, {
    more: constants.ZSTD_e_continue,
    end: constants.ZSTD_e_end,
    hasEndedWhenItLeavesInput: false,
  });
}

interface Rules {
  readonly more: number;
  readonly end: number;
  /** What follows when there is room for more and the decoder leaves input alone: nothing, or the next frame */
  readonly hasEndedWhenItLeavesInput: boolean;
}

async function* unpacked(
  stream: Gunzip | ZstdDecompress,
  input: AsyncIterable<Buffer>,
  { more, end, hasEndedWhenItLeavesInput }: Rules,
): AsyncGenerator<Buffer> {
  try {
    const decoder = new NativeDecoder(stream);
    const turns = new Turns();
    for await (const chunk of input) {
      for (let at = 0; at < chunk.length; await turns.share()) {
        const { piece, taken } = decoder.unpack(chunk.subarray(at), more);
        at += taken;
        if (piece.length > 0) yield piece;
        if (piece.length === outputBytes || at === chunk.length) continue;
        if (hasEndedWhenItLeavesInput) return;
        if (taken === 0 && piece.length === 0)
          throw Object.assign(new Error('No progress'), { code: 'ZSTD_error_noForwardProgress_inputEmpty' });
      }
    }
    for (let isFull = true; isFull;) {
      const { piece } = decoder.unpack(nothing, end);
      if (piece.length > 0) yield piece;
      isFull = piece.length === outputBytes;
    }
  } finally {
    stream.close();
  }
}

class NativeDecoder {
  readonly #handle: DecoderHandle;
  readonly #state: Uint32Array;
  readonly #output = Buffer.allocUnsafeSlow(outputBytes);
  #failure: Error | undefined;

  constructor(stream: Gunzip | ZstdDecompress) {
    const { _handle: handle, _writeState: state } = stream as unknown as DecoderInternals;
    handle.onerror = (message, errno, code) => {
      this.#failure = Object.assign(new Error(message), { errno, code });
    };
    this.#handle = handle;
    this.#state = state;
  }

  /** Unpacks until the output is full, the input is used up, or a frame has ended. */
  unpack(input: Buffer, flush: number): { readonly piece: Buffer; readonly taken: number } {
    this.#handle.writeSync(flush, input, 0, input.length, this.#output, 0, outputBytes);
    if (this.#failure) throw this.#failure;
    const [room = 0, left = 0] = this.#state;
    return { piece: this.#output.subarray(0, outputBytes - room), taken: input.length - left };
  }
}
