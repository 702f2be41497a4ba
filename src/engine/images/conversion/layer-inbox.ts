import { readSync } from 'node:fs';
import type { FilePiece } from './layer-feeds.ts';
import type { FromThread, ToThread } from './thread-messages.ts';

/** Pieces in which files are read: compressed ones of that size fit the processor's cache */
const pieceBytes = 256 * 1024;

interface Arriving {
  /** What is in the window, in order */
  readonly parts: { readonly at: number; readonly bytes: number }[];
  /** Where it is when it is a file */
  file?: FilePiece;
  hasEnded: boolean;
}

/** Layers on their way from the engine; one is read at a time. */
export class LayerInbox {
  readonly #window: SharedArrayBuffer;
  readonly #tell: (message: FromThread) => void;
  readonly #arriving = new Map<number, Arriving>();
  #buffer: Buffer | undefined;
  #failure: Error | undefined;
  #wake: () => void = () => undefined;

  constructor(window: SharedArrayBuffer, tell: (message: FromThread) => void) {
    this.#window = window;
    this.#tell = tell;
  }

  accept(message: Exclude<ToThread, { type: 'cancel' }>): void {
    const arriving = this.#arriving.get(message.layer);
    // One that was closed may have been on its way.
    if (!arriving) return;
    if (message.type === 'data') arriving.parts.push(message);
    else if (message.type === 'file') arriving.file = message;
    else if (message.isBroken) this.#failure = new Error('the layer cannot be read');
    else arriving.hasEnded = true;
    this.#wake();
  }

  fail(error: Error): void {
    this.#failure = error;
    this.#wake();
  }

  /** Each chunk is valid until the next one is asked for. */
  async *read(layer: number): AsyncGenerator<Buffer> {
    const arriving: Arriving = { parts: [], hasEnded: false };
    this.#arriving.set(layer, arriving);
    this.#tell({ type: 'open', layer });
    try {
      for (let done = 0; ;) {
        if (this.#failure) throw this.#failure;
        const part = arriving.parts.shift();
        if (part) {
          yield Buffer.from(this.#window, part.at, part.bytes);
          this.#tell({ type: 'taken', layer, bytes: part.bytes });
        } else if (arriving.file && arriving.file.start + done < arriving.file.end) {
          const piece = this.#readPiece(arriving.file, arriving.file.start + done);
          // Cut off, as one whose download begins again is: the engine knows.
          if (piece.length === 0) return;
          done += piece.length;
          yield piece;
        } else if (arriving.hasEnded) {
          return;
        } else {
          await new Promise<void>((resolve) => (this.#wake = resolve));
        }
      }
    } finally {
      this.#arriving.delete(layer);
      this.#tell({ type: 'close', layer });
    }
  }

  /** Waits for the disk: the thread does nothing else. */
  #readPiece({ fd, end }: FilePiece, position: number): Buffer {
    this.#buffer ??= Buffer.allocUnsafeSlow(pieceBytes);
    const bytes = readSync(fd, this.#buffer, 0, Math.min(pieceBytes, end - position), position);
    return this.#buffer.subarray(0, bytes);
  }
}
