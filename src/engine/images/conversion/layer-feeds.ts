import type { LayerFile } from '../layers/layers.ts';

/** Brings one layer to the thread that converts it. */
export interface LayerFeed {
  /** Returns when the thread has been told of all of it; throws what is wrong with the source. */
  run(): Promise<void>;
  /** The thread has taken so many bytes more */
  taken(bytes: number): void;
  /** Nothing more is wanted. Only once the thread reads nothing any more. */
  stop(): void;
}

/** What of an open file is a layer, as far as it is there. */
export interface FilePiece {
  readonly fd: number;
  readonly start: number;
  readonly end: number;
}

/** Tells how much of a file there is to read. */
export class FileFeed implements LayerFeed {
  readonly #open: () => Promise<LayerFile>;
  readonly #announce: (file: FilePiece) => void;
  #file: LayerFile | undefined;
  #isStopped = false;

  constructor(open: () => Promise<LayerFile>, announce: (file: FilePiece) => void) {
    this.#open = open;
    this.#announce = announce;
  }

  async run(): Promise<void> {
    const file = await this.#open();
    this.#file = file;
    if (this.#isStopped) return this.#close();
    const { fd, start = 0 } = file;
    for (let told = start; !this.#isStopped;) {
      const end = await file.reach(told).catch((error: unknown) => {
        // Of what is closed nothing can be said, and nobody asks.
        if (this.#isStopped) return told;
        throw error;
      });
      // Once it is stopped, its descriptor may be that of another file.
      if (this.#isStopped || end <= told) return;
      this.#announce({ fd, start, end });
      told = end;
    }
  }

  taken(): void {
    // It reads by itself.
  }

  /** The file stays open until here, whatever became of the layer: another one would have its number. */
  stop(): void {
    if (this.#isStopped) return;
    this.#isStopped = true;
    this.#close();
  }

  #close(): void {
    // It was only read.
    void this.#file?.close().catch(() => undefined);
  }
}

/** Reads a layer into the window, from its end on from its start again, as fast as the thread takes it. */
export class StreamFeed implements LayerFeed {
  readonly #open: () => AsyncIterable<Buffer>;
  readonly #window: Buffer;
  readonly #announce: (part: { readonly at: number; readonly bytes: number }) => void;
  #at = 0;
  #underway = 0;
  #isStopped = false;
  #wake: () => void = () => undefined;

  /** Only one feed at a time may use a window. */
  constructor(
    open: () => AsyncIterable<Buffer>,
    window: SharedArrayBuffer,
    announce: (part: { readonly at: number; readonly bytes: number }) => void,
  ) {
    this.#open = open;
    this.#window = Buffer.from(window);
    this.#announce = announce;
  }

  async run(): Promise<void> {
    for await (const chunk of this.#open()) {
      for (let done = 0; done < chunk.length;) {
        while (this.#underway === this.#window.length && !this.#isStopped) {
          await new Promise<void>((resolve) => (this.#wake = resolve));
        }
        if (this.#isStopped) return;
        done += this.#put(chunk.subarray(done));
      }
    }
  }

  /** Returns how much of it there was room for without going back to the start. */
  #put(data: Buffer): number {
    const { length } = this.#window;
    const bytes = Math.min(data.length, length - this.#underway, length - this.#at);
    data.copy(this.#window, this.#at, 0, bytes);
    this.#announce({ at: this.#at, bytes });
    this.#at = (this.#at + bytes) % length;
    this.#underway += bytes;
    return bytes;
  }

  taken(bytes: number): void {
    this.#underway -= bytes;
    this.#wake();
  }

  stop(): void {
    this.#isStopped = true;
    this.#wake();
  }
}
