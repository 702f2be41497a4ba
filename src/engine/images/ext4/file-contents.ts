import type { BlockAllocator } from './block-allocator.ts';
import type { BlockFile } from './block-file.ts';
import { blockSize } from './format.ts';
import { type Extent, extentsOf } from './nodes.ts';

/** Bytes of a file that are stored; a sparse file has several stretches, a plain one has one. */
export interface Stretch {
  readonly offset: number;
  readonly length: number;
}

/**
 * Takes blocks for the stretches of a file (ascending, not overlapping).
 * Stretches that share a block share it here too.
 */
export function allocateStretches(allocator: BlockAllocator, stretches: readonly Stretch[]): Extent[] {
  const ranges: { first: number; end: number }[] = [];
  for (const { offset, length } of stretches) {
    if (length === 0) continue;
    const first = Math.floor(offset / blockSize);
    const end = Math.ceil((offset + length) / blockSize);
    const last = ranges.at(-1);
    if (last && first <= last.end) last.end = Math.max(last.end, end);
    else ranges.push({ first, end });
  }
  const take = ({ first, end }: { first: number; end: number }): Extent[] =>
    extentsOf(allocator.allocate(end - first), first);
  // Nearly all files have one range, and an array that grew by `flatMap` has room for seventeen extents.
  return ranges.length === 1 ? take(ranges[0]!) : ranges.flatMap(take);
}

/** Writes a file's contents into its extents, front to back. */
export class ContentsWriter {
  readonly #file: BlockFile;
  readonly #extents: readonly Extent[];
  #current = 0;
  /** Offset in the file up to which its blocks are written */
  #position = 0;

  constructor(file: BlockFile, extents: readonly Extent[]) {
    this.#file = file;
    this.#extents = extents;
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
    for (;;) {
      const extent = this.#extents[this.#current];
      if (!extent) return;
      const start = extent.logical * blockSize;
      this.#position = Math.max(this.#position, start);
      const endOfExtent = start + extent.run.length * blockSize;
      const length = Math.min(end, endOfExtent) - this.#position;
      if (length <= 0) return;
      visit(extent.run.start * blockSize + this.#position - start, length);
      this.#position += length;
      if (this.#position === endOfExtent) this.#current++;
    }
  }
}

/** Reads a small file back, up to `maxBytes` of it. */
export async function readContents(
  file: BlockFile,
  node: { readonly size: number; readonly extents: readonly Extent[] },
  maxBytes: number,
): Promise<Buffer> {
  const contents = Buffer.alloc(Math.min(node.size, maxBytes));
  for (const { logical, run } of node.extents) {
    const offset = logical * blockSize;
    const length = Math.min(run.length * blockSize, contents.length - offset);
    if (length > 0) (await file.read(run.start * blockSize, length)).copy(contents, offset);
  }
  return contents;
}
