import { writeSync } from 'node:fs';
import { type FileHandle, open } from 'node:fs/promises';
import { BangerError, errnoOf } from '../../../errors.ts';

const bufferSize = 1024 * 1024;
/** Full buffers that may wait for the disk before `ready` makes the producer wait too. */
const maxWaiting = 4;
/** Writes of their own for pieces from here on, where nothing is gained by gathering them */
const directBytes = 128 * 1024;
const zeros = Buffer.alloc(64 * 1024);
/** So much is left to the operating system before it is asked to have it on the disk. */
const writebackBytes = 64 * 1024 * 1024;
/** Shorter holes are written: a write that goes on costs less than two */
const minHoleBytes = 32 * 1024;

export interface BlockFileOptions {
  /**
   * Writes within `put`: for a thread that does nothing else. What it hands over to others has to be copied, and is in
   * another processor's cache when it is written.
   */
  readonly isBlocking?: boolean;
}

/**
 * A sparse file written at any position. Neighbouring writes are joined into
 * large ones; they reach the file in the order they were made.
 */
export class BlockFile {
  readonly #path: string;
  readonly #handle: FileHandle;
  readonly #isBlocking: boolean;
  #buffer = Buffer.allocUnsafe(bufferSize);
  #start = 0;
  #filled = 0;
  /** Nothing was put from here on: it reads as zeros */
  #end = 0;
  #spare: Buffer<ArrayBuffer>[] = [];
  #waiting = 0;
  #tail: Promise<void> = Promise.resolve();
  #failure: { readonly error: unknown } | undefined;
  /** Written since the last request to have it on the disk */
  #unsynced = 0;
  #syncing: Promise<void> | undefined;

  private constructor(path: string, handle: FileHandle, isBlocking: boolean) {
    this.#path = path;
    this.#handle = handle;
    this.#isBlocking = isBlocking;
  }

  /** Creates the file; one that exists is refused. */
  static async create(path: string, { isBlocking = false }: BlockFileOptions = {}): Promise<BlockFile> {
    return new BlockFile(path, await open(path, 'wx+', 0o600), isBlocking);
  }

  /** Writes `data` at `position`, or a copy of it before long. Call `ready` between puts. */
  put(position: number, data: Uint8Array): void {
    if (position >= this.#end && isLongHole(data)) return;
    this.#end = Math.max(this.#end, position + data.length);
    if (this.#isBlocking && data.length >= directBytes) {
      this.#submit();
      this.#writeNow(data, position);
      return;
    }
    for (let done = 0; done < data.length;) {
      const at = position + done;
      if (this.#filled === bufferSize || this.#start + this.#filled !== at) this.#submit();
      if (this.#filled === 0) this.#start = at;
      const part = data.subarray(done, done + bufferSize - this.#filled);
      this.#buffer.set(part, this.#filled);
      this.#filled += part.length;
      done += part.length;
    }
  }

  putZeros(position: number, length: number): void {
    for (let done = 0; done < length; done += zeros.length) {
      this.put(position + done, zeros.subarray(0, Math.min(zeros.length, length - done)));
    }
  }

  /** False when `ready` has to wait, or something to throw */
  get isReady(): boolean {
    return this.#waiting <= maxWaiting && !this.#failure;
  }

  /** Waits while the disk is behind, and throws what went wrong with earlier writes. */
  async ready(): Promise<void> {
    while (this.#waiting > maxWaiting) await this.#tail;
    if (this.#failure) throw this.#failure.error;
  }

  /** Hands everything to the operating system. It does not wait for the disk itself. */
  async flush(): Promise<void> {
    this.#submit();
    await this.#tail;
    if (this.#failure) throw this.#failure.error;
  }

  /**
   * Has what was written so far brought to the disk while work goes on, so that whoever syncs the finished file waits
   * for the rest only. It happens by itself every now and then.
   */
  writeBack(): void {
    if (this.#syncing || this.#unsynced === 0) return;
    this.#unsynced = 0;
    // A failure is told once by the kernel: whoever syncs the file later would hear nothing of it.
    this.#syncing = this.#handle
      .datasync()
      .catch((error: unknown) => void (this.#failure ??= { error }))
      .finally(() => (this.#syncing = undefined));
  }

  async read(position: number, length: number): Promise<Buffer> {
    await this.flush();
    const { buffer, bytesRead } = await this.#handle.read(Buffer.alloc(length), 0, length, position);
    return buffer.subarray(0, bytesRead);
  }

  /** Gives the finished file its size, and throws whatever went wrong with it until then. */
  async resize(sizeBytes: number): Promise<void> {
    await this.#syncing;
    await this.flush();
    try {
      await this.#handle.truncate(sizeBytes);
    } catch (error) {
      throw this.#explain(error);
    }
  }

  async close(): Promise<void> {
    await this.#tail;
    await this.#syncing;
    await this.#handle.close();
  }

  #submit(): void {
    if (this.#filled === 0) return;
    if (this.#isBlocking) {
      this.#writeNow(this.#buffer.subarray(0, this.#filled), this.#start);
      this.#filled = 0;
      return;
    }
    const buffer = this.#buffer;
    const data = buffer.subarray(0, this.#filled);
    const position = this.#start;
    this.#waiting++;
    this.#tail = this.#tail.then(async () => {
      await this.#write(data, position);
      this.#spare.push(buffer);
      this.#waiting--;
    });
    this.#buffer = this.#spare.pop() ?? Buffer.allocUnsafe(bufferSize);
    this.#filled = 0;
  }

  /** After a failure the rest is dropped; the failure is thrown where somebody waits. */
  async #write(data: Buffer, position: number): Promise<void> {
    try {
      for (let done = 0; done < data.length && !this.#failure;) {
        const { bytesWritten } = await this.#handle.write(data, done, data.length - done, position + done);
        done += bytesWritten;
        this.#count(bytesWritten);
      }
    } catch (error) {
      this.#failure = { error: this.#explain(error) };
    }
  }

  #writeNow(data: Uint8Array, position: number): void {
    try {
      for (let done = 0; done < data.length && !this.#failure;) {
        const bytesWritten = writeSync(this.#handle.fd, data, done, data.length - done, position + done);
        done += bytesWritten;
        this.#count(bytesWritten);
      }
    } catch (error) {
      this.#failure = { error: this.#explain(error) };
    }
  }

  #count(bytesWritten: number): void {
    this.#unsynced += bytesWritten;
    if (this.#unsynced >= writebackBytes) this.writeBack();
  }

  #explain(error: unknown): unknown {
    const errno = errnoOf(error);
    if (errno === 'ENOSPC' || errno === 'EDQUOT') {
      return new BangerError('invalid_state', `No space left to write "${this.#path}"`, {
        hint: 'Make room, for example by deleting images that are not used: banger image list',
        cause: error,
      });
    }
    if (errno === 'EFBIG') {
      return new BangerError('invalid_state', `The file "${this.#path}" is too large for its filesystem`, {
        cause: error,
      });
    }
    return error;
  }
}

/** Zeros, and enough of them that leaving them out is worth a write that ends there. */
function isLongHole(data: Uint8Array): boolean {
  if (data.length < minHoleBytes || data[0] !== 0) return false;
  for (let from = 0; from < data.length; from += zeros.length) {
    const part = data.subarray(from, from + zeros.length);
    if (zeros.compare(part, 0, part.length, 0, part.length) !== 0) return false;
  }
  return true;
}
