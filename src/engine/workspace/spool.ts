import { open, unlink, type FileHandle } from 'node:fs/promises';
import { join } from 'node:path';
import type { Layout } from '../../state/layout.ts';
import { withScratch } from './scratch.ts';

/** What is longer than this goes to a file. */
const maxMemoryBytes = 1024 * 1024;
const pieceBytes = 256 * 1024;

/** Holds what a guest says until all of it is there, in memory that is bounded. */
export interface Spool {
  readonly sizeBytes: number;
  write(piece: Buffer): Promise<void>;
  read(): AsyncGenerator<Buffer>;
}

/**
 * Runs a task with a place for what a guest says. Whoever reads it then is not told half of something that broke off,
 * and may take all day without a lock being held for it.
 */
export async function withSpool<T>(
  layout: Pick<Layout, 'scratchDirectory'>,
  task: (spool: Spool) => Promise<T>,
): Promise<T> {
  return withScratch(layout, async (scratch) => {
    const spool = new FileSpool(join(scratch, 'spool'));
    try {
      return await task(spool);
    } finally {
      await spool.close();
    }
  });
}

class FileSpool implements Spool {
  readonly #path: string;
  #waiting: Buffer[] = [];
  #waitingBytes = 0;
  #file: FileHandle | undefined;
  sizeBytes = 0;

  constructor(path: string) {
    this.#path = path;
  }

  async write(piece: Buffer): Promise<void> {
    this.#waiting.push(piece);
    this.#waitingBytes += piece.length;
    this.sizeBytes += piece.length;
    if (this.#waitingBytes > maxMemoryBytes) await this.#flush();
  }

  async *read(): AsyncGenerator<Buffer> {
    if (this.#file) {
      for (let at = 0; ;) {
        const { buffer, bytesRead } = await this.#file.read(Buffer.alloc(pieceBytes), 0, pieceBytes, at);
        if (bytesRead === 0) break;
        at += bytesRead;
        yield buffer.subarray(0, bytesRead);
      }
    }
    yield* this.#waiting;
  }

  async close(): Promise<void> {
    await this.#file?.close();
  }

  async #flush(): Promise<void> {
    if (!this.#file) {
      this.#file = await open(this.#path, 'wx+', 0o600);
      // Whatever becomes of this process, it does not stay.
      await unlink(this.#path);
    }
    for (const piece of this.#waiting) await this.#file.writeFile(piece);
    this.#waiting = [];
    this.#waitingBytes = 0;
  }
}
