import {
  closeSync,
  fstatSync,
  ftruncateSync,
  openSync,
  readSync,
  renameSync,
  rmSync,
  statSync,
  writeSync,
} from 'node:fs';
import { open } from 'node:fs/promises';
import { errnoOf } from '../errors.ts';

const chunkBytes = 64 * 1024;

/** The file that holds what was last cut off a log. */
export function cutOffPath(path: string): string {
  return `${path}.1`;
}

export interface LogOptions {
  /**
   * Its one writer goes on after a cut where it was, as one does that has not opened it for appending: before what it
   * writes then there is a hole, which is no part of the log. Such a log has no zeros in it.
   */
  readonly mayHaveHole?: boolean;
}

/**
 * A log that another process appends to and does not know it is cut.
 *
 * What is cut off is kept as `NAME.1`, until the next cut. Positions count bytes and go on over cuts, so that whoever
 * reads along keeps its place; those of what was cut off before the first cut here are negative.
 */
export class BoundedLog {
  readonly path: string;
  readonly #mayHaveHole: boolean;
  /** Position of the file's first byte that is no hole; what is in `NAME.1` ends there */
  #base = 0;

  constructor(path: string, { mayHaveHole = false }: LogOptions = {}) {
    this.path = path;
    this.#mayHaveHole = mayHaveHole;
  }

  /** Positions of the first byte that is left, and after the last. */
  get range(): { readonly start: number; readonly end: number } {
    const length = sizeOf(this.path) - this.#hole();
    return { start: this.#base - sizeOf(cutOffPath(this.path)), end: this.#base + length };
  }

  /**
   * Up to `maxBytes` from a position on, fewer at the seam between the two files; none at the end. What is not there
   * any more is left out. `next` is where to go on.
   */
  read(position: number, maxBytes = chunkBytes): { readonly content: Buffer; readonly next: number } {
    const { start, end } = this.range;
    // Beyond the end: somebody else has made the log anew.
    const from = position > end ? this.#base : Math.max(position, start);
    const isCutOff = from < this.#base;
    const content = isCutOff
      ? readAt(cutOffPath(this.path), from - start, Math.min(maxBytes, this.#base - from))
      : readAt(this.path, this.#hole() + from - this.#base, maxBytes);
    return { content, next: from + content.length };
  }

  /** What is left between two positions. */
  between(from: number, to: number): Buffer {
    const parts: Buffer[] = [];
    for (let at = from; at < to;) {
      const { content, next } = this.read(at, Math.min(chunkBytes, to - at));
      if (content.length === 0) break;
      parts.push(content);
      at = next;
    }
    return Buffer.concat(parts);
  }

  /** The last bytes, as many as there are up to a number. */
  tail(maxBytes: number): Buffer {
    const { start, end } = this.range;
    return this.between(Math.max(start, end - maxBytes), end);
  }

  /** Where the last lines begin, as many as asked for. A last line without its end counts. */
  lastLines(count: number): number {
    const { start, end } = this.range;
    let missing = count;
    for (let after = end; after > start;) {
      const before = Math.max(start, after - chunkBytes);
      const chunk = this.between(before, after);
      for (let index = chunk.length - 1; index >= 0; index--) {
        const position = before + index;
        if (chunk[index] !== 0x0a || position === end - 1) continue;
        if (--missing <= 0) return count === 0 ? end : position + 1;
      }
      after = before;
    }
    return count === 0 ? end : start;
  }

  /**
   * Empties a log that is longer than the limit, and keeps its end, as long as the limit, as `NAME.1`. True when it
   * did. What is written at the very moment may be missing from `NAME.1`.
   *
   * When the end cannot be kept, as on a full disk, the log is emptied all the same, and then the error is thrown.
   */
  async cut(limitBytes: number): Promise<boolean> {
    const hole = this.#hole();
    if (sizeOf(this.path) - hole <= limitBytes) return false;
    const log = openSync(this.path, 'r+');
    const temporary = `${cutOffPath(this.path)}.tmp`;
    try {
      const { size } = fstatSync(log);
      const kept = await copyPart(this.path, temporary, { from: size - limitBytes, to: size });
      // From here on in one go, so that nobody reads in between. Its writer does not wait, but has written little.
      const end = appendRest(log, temporary, { from: kept, maxBytes: limitBytes });
      if (!isStill(this.path, log)) {
        rmSync(temporary, { recursive: true, force: true });
        return false;
      }
      renameSync(temporary, cutOffPath(this.path));
      ftruncateSync(log, 0);
      this.#base += end - hole;
      return true;
    } catch (error) {
      rmSync(temporary, { recursive: true, force: true });
      rmSync(cutOffPath(this.path), { force: true });
      this.#base += fstatSync(log).size - hole;
      ftruncateSync(log, 0);
      throw error;
    } finally {
      closeSync(log);
    }
  }

  /** Length of the hole that the file begins with. */
  #hole(): number {
    if (!this.#mayHaveHole || readAt(this.path, 0, 1)[0] !== 0) return 0;
    const isHole = (at: number): boolean => readAt(this.path, at, 1)[0] === 0;
    let last = 0;
    let end = sizeOf(this.path);
    while (end - last > 1) {
      const middle = Math.floor((last + end) / 2);
      if (isHole(middle)) last = middle;
      else end = middle;
    }
    return end;
  }
}

async function copyPart(
  from: string,
  to: string,
  range: { readonly from: number; readonly to: number },
): Promise<number> {
  await using source = await open(from, 'r');
  await using target = await open(to, 'w', 0o600);
  const buffer = Buffer.alloc(chunkBytes);
  let position = range.from;
  while (position < range.to) {
    const length = Math.min(buffer.length, range.to - position);
    const { bytesRead } = await source.read(buffer, 0, length, position);
    if (bytesRead === 0) break;
    await target.writeFile(buffer.subarray(0, bytesRead));
    position += bytesRead;
  }
  return position;
}

function appendRest(
  source: number,
  to: string,
  rest: { readonly from: number; readonly maxBytes: number },
): number {
  const target = openSync(to, 'a');
  try {
    const buffer = Buffer.alloc(chunkBytes);
    let position = rest.from;
    while (position < rest.from + rest.maxBytes) {
      const bytesRead = readSync(source, buffer, 0, buffer.length, position);
      if (bytesRead === 0) break;
      for (let written = 0; written < bytesRead;)
        written += writeSync(target, buffer, written, bytesRead - written);
      position += bytesRead;
    }
    return position;
  } finally {
    closeSync(target);
  }
}

/** A log that was renamed meanwhile belongs to a start that is over. */
function isStill(path: string, descriptor: number): boolean {
  return statSync(path, { throwIfNoEntry: false })?.ino === fstatSync(descriptor).ino;
}

function sizeOf(path: string): number {
  return statSync(path, { throwIfNoEntry: false })?.size ?? 0;
}

/** Small and from memory as a rule; at once, so that no cut comes in between. A file that is not there is empty. */
function readAt(path: string, position: number, maxBytes: number): Buffer {
  let file: number;
  try {
    file = openSync(path, 'r');
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return Buffer.alloc(0);
    throw error;
  }
  try {
    const buffer = Buffer.alloc(Math.min(maxBytes, chunkBytes));
    return buffer.subarray(0, readSync(file, buffer, 0, buffer.length, position));
  } finally {
    closeSync(file);
  }
}
