import type { BlockFile } from './block-file.ts';
import type { Extent, Extents } from './extent-table.ts';
import { blockSize } from './format.ts';

/** Writes a file's contents into its extents, front to back. */
export class ContentsWriter {
  readonly #file: BlockFile;
  readonly #extents: Iterator<Extent>;
  #extent: Extent | undefined;
  /** Offset in the file up to which its blocks are written */
  #position = 0;

  constructor(file: BlockFile, extents: Extents) {
    this.#file = file;
    this.#extents = extents[Symbol.iterator]();
    this.#enterNext();
  }

  /** Writes `data` at `offset`, which is not before the end of what was written. */
  write(offset: number, data: Buffer): void {
    this.#zeroUntil(offset);
    this.#forEachPart(offset + data.length, (diskPosition, length) => {
      const from = this.#position - offset;
      this.#file.put(diskPosition, data.subarray(from, from + length));
    });
  }

  /** Fills the rest of the last block: it may have held another file. */
  finish(): void {
    this.#zeroUntil(Infinity);
  }

  #zeroUntil(end: number): void {
    this.#forEachPart(end, (diskPosition, length) => {
      this.#file.putZeros(diskPosition, length);
    });
  }

  /** Visits the stored parts between the position and `end`, and moves the position there. */
  #forEachPart(end: number, visit: (diskPosition: number, length: number) => void): void {
    for (let extent = this.#extent; extent; extent = this.#extent) {
      const start = extent.logical * blockSize;
      this.#position = Math.max(this.#position, start);
      const endOfExtent = start + extent.run.length * blockSize;
      const length = Math.min(end, endOfExtent) - this.#position;
      if (length <= 0) return;
      visit(extent.run.start * blockSize + this.#position - start, length);
      this.#position += length;
      if (this.#position === endOfExtent) this.#enterNext();
    }
  }

  #enterNext(): void {
    const next = this.#extents.next();
    this.#extent = next.done ? undefined : next.value;
  }
}

/** Reads a small file back, up to `maxBytes` of it. */
export async function readContents(
  file: BlockFile,
  { size, extents }: { readonly size: number; readonly extents: Extents },
  maxBytes: number,
): Promise<Buffer> {
  const contents = Buffer.alloc(Math.min(size, maxBytes));
  for (const { logical, run } of extents) {
    const offset = logical * blockSize;
    const length = Math.min(run.length * blockSize, contents.length - offset);
    if (length > 0) (await file.read(run.start * blockSize, length)).copy(contents, offset);
  }
  return contents;
}
