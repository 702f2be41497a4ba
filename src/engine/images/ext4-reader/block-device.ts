import { open, type FileHandle } from 'node:fs/promises';
import { DamagedFilesystem } from './damage.ts';

const cachedWindows = 64;
const windowBytes = 64 * 1024;

/**
 * The file that a filesystem is in. Reads beyond its end are damage, and so is reading more than `budgetBytes` in
 * all: in a sound filesystem no block belongs to two files, so whoever reads on and on is being led in circles.
 */
export class BlockDevice {
  readonly #file: FileHandle;
  readonly sizeBytes: number;
  readonly #windows = new Map<number, Buffer>();
  #budgetBytes: number;

  private constructor(file: FileHandle, sizeBytes: number, budgetBytes: number) {
    this.#file = file;
    this.sizeBytes = sizeBytes;
    // Metadata is looked at more than once: an inode table block for each of its inodes.
    this.#budgetBytes = Math.min(budgetBytes, 2 * sizeBytes + 64 * 1024 * 1024);
  }

  static async open(path: string, budgetBytes = Infinity): Promise<BlockDevice> {
    const file = await open(path, 'r');
    try {
      return new BlockDevice(file, (await file.stat()).size, budgetBytes);
    } catch (error) {
      await file.close();
      throw error;
    }
  }

  close(): Promise<void> {
    return this.#file.close();
  }

  /** Reads contents. Not cached. */
  async read(offset: number, length: number): Promise<Buffer> {
    this.#check(offset, length);
    this.charge(length);
    const bytes = Buffer.allocUnsafe(length);
    const { bytesRead } = await this.#file.read(bytes, 0, length, offset);
    if (bytesRead !== length) throw new DamagedFilesystem('is shorter than it was');
    return bytes;
  }

  /** Reads metadata, at most one window long, through a small cache. */
  async readMetadata(offset: number, length: number): Promise<Buffer> {
    this.#check(offset, length);
    this.charge(length);
    const start = Math.floor(offset / windowBytes) * windowBytes;
    if (offset + length <= start + windowBytes) {
      const window = this.#windows.get(start) ?? (await this.#load(start));
      return window.subarray(offset - start, offset - start + length);
    }
    const bytes = Buffer.alloc(length);
    await this.#file.read(bytes, 0, length, offset);
    return bytes;
  }

  /** Counts work that reads nothing. */
  charge(bytes: number): void {
    this.#budgetBytes -= bytes;
    if (this.#budgetBytes < 0) throw new DamagedFilesystem('claims the same blocks again and again');
  }

  #check(offset: number, length: number): void {
    if (Number.isSafeInteger(offset) && offset >= 0 && offset + length <= this.sizeBytes) return;
    throw new DamagedFilesystem('points beyond its end');
  }

  async #load(start: number): Promise<Buffer> {
    const window = Buffer.alloc(Math.min(windowBytes, this.sizeBytes - start));
    await this.#file.read(window, 0, window.length, start);
    const [oldest] = this.#windows.keys();
    if (oldest !== undefined && this.#windows.size >= cachedWindows) this.#windows.delete(oldest);
    this.#windows.set(start, window);
    return window;
  }
}
