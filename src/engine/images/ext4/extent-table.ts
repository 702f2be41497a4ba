import type { BlockAllocator } from './block-allocator.ts';
import { blockSize } from './format.ts';
import { extentTreeBlocks } from './extents.ts';
import { Records } from './records.ts';
import type { BlockRun } from './run-list.ts';
import type { Stretch, Stretches } from './stretches.ts';

/** A part of a file: `run.length` blocks of it from block `logical` on are on disk at `run.start`. */
export interface Extent {
  readonly logical: number;
  readonly run: BlockRun;
}

/** Ascending; what lies between reads as zeros. */
export interface Extents extends Iterable<Extent> {
  readonly length: number;
}

/**
 * Where the contents of a file are, in one number: 0 for nowhere, the block where its only run begins, or, from
 * `firstChain` on, the first of its extents in the table. No filesystem of ours has as many blocks.
 */
export type Place = number;
const firstChain = 2 ** 31;

const logicalField = 0;
const startField = 1;
const lengthField = 2;
const nextField = 3;

/** The extents of files that have several, or that begin with a hole or end in one. */
export class ExtentTable {
  readonly #records = new Records(4);
  #treeBlocks = 0;

  get heldBytes(): number {
    return this.#records.heldBytes;
  }

  /** Blocks that will say where the contents of all files are, which have none yet. */
  get treeBlocks(): number {
    return this.#treeBlocks;
  }

  /**
   * Takes blocks for the stretches of a file. Stretches that share a block share it here too.
   */
  allocate(allocator: BlockAllocator, size: number, stretches: Stretches): Place {
    const chain = new Chain(this.#records);
    let single: Extent | undefined;
    for (const { first, end } of blockRanges(stretches)) {
      for (const extent of extentsOf(allocator.allocate(end - first), first)) {
        if (!single && chain.first === 0) {
          single = extent;
          continue;
        }
        if (single) chain.append(single);
        single = undefined;
        chain.append(extent);
      }
    }
    if (chain.first === 0 && !single) return 0;
    if (single?.logical === 0 && single.run.length === blocksOf(size)) return single.run.start;
    if (single) chain.append(single);
    this.#treeBlocks += extentTreeBlocks(chain.length);
    return firstChain + chain.first;
  }

  /** The extents of a file of that size. */
  at(place: Place, size: number): Extents {
    if (place === 0) return [];
    if (place < firstChain) return [{ logical: 0, run: { start: place, length: blocksOf(size) } }];
    return new ChainedExtents(this.#records, place - firstChain);
  }

  /** Forgets them; the blocks are not given back. */
  remove(place: Place): void {
    if (place < firstChain) return;
    let length = 0;
    for (let record = place - firstChain; record !== 0; length++) {
      const next = this.#records.get(record, nextField);
      this.#records.remove(record);
      record = next;
    }
    this.#treeBlocks -= extentTreeBlocks(length);
  }
}

/** Lays runs end to end from block `logical` of a file on. */
export function extentsOf(runs: readonly BlockRun[], logical = 0): Extent[] {
  let position = logical;
  return runs.map((run) => {
    const extent = { logical: position, run };
    position += run.length;
    return extent;
  });
}

class Chain {
  readonly #records: Records;
  #last = 0;
  /** 0 while there is none */
  first = 0;
  length = 0;

  constructor(records: Records) {
    this.#records = records;
  }

  append({ logical, run }: Extent): void {
    this.length++;
    const record = this.#records.add();
    this.#records.set(record, logicalField, logical);
    this.#records.set(record, startField, run.start);
    this.#records.set(record, lengthField, run.length);
    if (this.#last === 0) this.first = record;
    else this.#records.set(this.#last, nextField, record);
    this.#last = record;
  }
}

class ChainedExtents implements Extents {
  readonly #records: Records;
  readonly #first: number;

  constructor(records: Records, first: number) {
    this.#records = records;
    this.#first = first;
  }

  get length(): number {
    let length = 0;
    for (let record = this.#first; record !== 0; record = this.#records.get(record, nextField)) length++;
    return length;
  }

  *[Symbol.iterator](): Iterator<Extent> {
    const records = this.#records;
    for (let record = this.#first; record !== 0; record = records.get(record, nextField)) {
      const run = { start: records.get(record, startField), length: records.get(record, lengthField) };
      yield { logical: records.get(record, logicalField), run };
    }
  }
}

/** The blocks of a file that stretches touch. */
function* blockRanges(
  stretches: Iterable<Stretch>,
): Generator<{ readonly first: number; readonly end: number }> {
  let open: { readonly first: number; end: number } | undefined;
  for (const { offset, length } of stretches) {
    if (length === 0) continue;
    const first = Math.floor(offset / blockSize);
    const end = blocksOf(offset + length);
    if (open && first <= open.end) {
      open.end = Math.max(open.end, end);
      continue;
    }
    if (open) yield open;
    open = { first, end };
  }
  if (open) yield open;
}

function blocksOf(bytes: number): number {
  return Math.ceil(bytes / blockSize);
}
