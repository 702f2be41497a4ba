import type { FileHandle } from 'node:fs/promises';

/** A write costs much the same whatever its size, up to here */
const pieceBytes = 512 * 1024;

/**
 * Writes a stream of chunks to a file, at once when they come slowly and many together when they come fast: while some
 * are being written, the next ones gather.
 */
export class PieceWriter {
  readonly #file: FileHandle;
  readonly #onWritten: (end: number) => void | Promise<void>;
  #position: number;
  #gathering: Buffer | undefined;
  #spare: Buffer | undefined;
  #gathered = 0;
  #writing: Promise<void> | undefined;
  #failure: { readonly error: unknown } | undefined;

  /** `onWritten` is told up to where the file is written. */
  constructor(file: FileHandle, position: number, onWritten: (end: number) => void | Promise<void>) {
    this.#file = file;
    this.#position = position;
    this.#onWritten = onWritten;
  }

  /** Copies the chunk. Throws what went wrong with earlier ones. */
  async add(chunk: Buffer): Promise<void> {
    for (let done = 0; done < chunk.length;) {
      if (this.#gathered === pieceBytes) await this.#writing;
      if (this.#failure) throw this.#failure.error;
      // Taken when it is wanted, and not both at once: the kernel clears memory of that size for milliseconds.
      this.#gathering ??= Buffer.allocUnsafeSlow(pieceBytes);
      const copied = chunk.copy(this.#gathering, this.#gathered, done);
      this.#gathered += copied;
      done += copied;
      this.#start();
    }
  }

  /** Returns when all is in the file. */
  async flush(): Promise<void> {
    while (this.#writing) await this.#writing;
    if (this.#failure) throw this.#failure.error;
  }

  #start(): void {
    const piece = this.#gathering;
    if (this.#writing || !piece || this.#gathered === 0 || this.#failure) return;
    const bytes = this.#gathered;
    this.#gathering = this.#spare;
    this.#gathered = 0;
    this.#writing = this.#write(piece.subarray(0, bytes))
      .catch((error: unknown) => void (this.#failure = { error }))
      .then(() => {
        this.#spare = piece;
        this.#writing = undefined;
        this.#start();
      });
  }

  async #write(piece: Buffer): Promise<void> {
    for (let done = 0; done < piece.length;) {
      const { bytesWritten } = await this.#file.write(piece, done, piece.length - done, this.#position);
      done += bytesWritten;
      this.#position += bytesWritten;
    }
    await this.#onWritten(this.#position);
  }
}
