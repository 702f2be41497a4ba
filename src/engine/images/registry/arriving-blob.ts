import { open, type FileHandle } from 'node:fs/promises';
import { errnoOf } from '../../../errors.ts';
import type { LayerFile } from '../layers/layers.ts';
import { blobPath, partialBlobPath } from './blob-files.ts';

/** Pieces of a file that is read; smaller ones cost more than they bring, as long as there is more to come. */
const pieceBytes = 1 << 20;
const leastBytes = 1 << 18;

/**
 * A blob that can be read while it is still on its way into the cache.
 *
 * What is read before `whole` is fulfilled has not been checked. A download that begins again makes what was read
 * worthless: whoever reads gets an error, or finds `wasReadInVain` afterwards.
 */
export class ArrivingBlob {
  readonly #directory: string;
  readonly #digest: string;
  readonly #whole = Promise.withResolvers<void>();
  #state: 'arriving' | 'whole' | 'lost' = 'arriving';
  /** Bytes that are in the file */
  #available = 0;
  /** How often the download began again */
  #beginnings = 0;
  /** The beginning that readers have bytes of */
  #wasRead: number | undefined;
  #wakeUps: (() => void)[] = [];

  constructor(directory: string, digest: string) {
    this.#directory = directory;
    this.#digest = digest;
    // Readers and whoever waits hear of it; there may be neither.
    this.#whole.promise.catch(() => undefined);
  }

  /** Fulfilled when the blob is in the cache and its hash is right */
  get whole(): Promise<void> {
    return this.#whole.promise;
  }

  get isWhole(): boolean {
    return this.#state === 'whole';
  }

  get isBeingRead(): boolean {
    return this.#wasRead !== undefined;
  }

  /** Bytes were handed out that are not those of the blob, or may not be. */
  get wasReadInVain(): boolean {
    return this.#wasRead !== undefined && this.#wasRead !== this.#beginnings;
  }

  /** So many bytes have come by now; fewer than before when the download began again. */
  grow(available: number): void {
    if (available < this.#available) this.#beginnings++;
    this.#available = available;
    this.#wake();
  }

  complete(): void {
    this.#state = 'whole';
    this.#whole.resolve();
    this.#wake();
  }

  fail(error: unknown): void {
    this.#state = 'lost';
    this.#whole.reject(error);
    this.#wake();
  }

  /** Opens the blob to be read from its start. `refetch` brings it back when somebody has emptied the cache. */
  async open(refetch: () => Promise<unknown>): Promise<LayerFile & { readonly file: FileHandle }> {
    await this.#reaches(leastBytes);
    const file = (await this.#find()) ?? (await refetch().then(() => this.#find()));
    if (!file) throw new Error(`blob ${this.#digest} is not in the cache`);
    const beginning = this.#beginnings;
    this.#wasRead = beginning;
    const check = (): void => {
      if (this.#beginnings !== beginning) throw new Error(`the download of blob ${this.#digest} began again`);
    };
    return {
      file,
      fd: file.fd,
      reach: async (position) => {
        check();
        await this.#reaches(position + leastBytes);
        const end = this.isWhole ? (await file.stat()).size : this.#available;
        check();
        return end;
      },
      close: () => file.close(),
    };
  }

  /** Opens and reads it. A piece is valid until the next one is asked for. */
  async *read(refetch: () => Promise<unknown>): AsyncGenerator<Buffer> {
    const { file, reach, close } = await this.open(refetch);
    const buffer = Buffer.allocUnsafeSlow(pieceBytes);
    try {
      for (let position = 0; ;) {
        const end = await reach(position);
        const { bytesRead } = await file.read(buffer, 0, Math.min(pieceBytes, end - position), position);
        // What was read while it began again is not the blob's.
        await reach(0);
        if (bytesRead === 0) return;
        yield buffer.subarray(0, bytesRead);
        position += bytesRead;
      }
    } finally {
      await close();
    }
  }

  /** Returns when so many bytes are in the file, or all; throws when they do not come. */
  async #reaches(bytes: number): Promise<void> {
    while (this.#state === 'arriving' && this.#available < bytes) {
      await new Promise<void>((resolve) => this.#wakeUps.push(resolve));
    }
    if (this.#state === 'lost') await this.whole;
  }

  #wake(): void {
    const wakeUps = this.#wakeUps;
    this.#wakeUps = [];
    for (const wakeUp of wakeUps) wakeUp();
  }

  async #find(): Promise<FileHandle | undefined> {
    if (this.#state === 'arriving') {
      const partial = await openIfThere(partialBlobPath(this.#directory, this.#digest));
      if (partial) return partial;
      // It has got its name at this very moment.
      await this.whole;
    }
    return openIfThere(blobPath(this.#directory, this.#digest));
  }
}

async function openIfThere(path: string): Promise<FileHandle | undefined> {
  try {
    return await open(path, 'r');
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return undefined;
    throw error;
  }
}
