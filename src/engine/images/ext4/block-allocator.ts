import { blockSize, blocksPerGroup } from './format.ts';
import { groupLayout } from './geometry.ts';

/** Consecutive blocks. */
export interface BlockRun {
  readonly start: number;
  readonly length: number;
}

/** How many freed runs an allocation looks at before it takes fresh blocks instead. */
const runsConsidered = 16;

/**
 * Hands out blocks in ascending order around the groups' metadata, and again
 * those that a later layer gave back.
 */
export class BlockAllocator {
  #next = groupLayout(0).firstData;
  #limit = groupLayout(0).end;
  #group = 0;
  #taken = 0;
  #free: BlockRun[] = [];
  #released: BlockRun[] = [];

  /** First block past all that were handed out. */
  get end(): number {
    return this.#next;
  }

  /** What is handed out now. */
  get usedBytes(): number {
    return this.#taken * blockSize;
  }

  /** Runs below `end` that nothing uses and that hold the contents of deleted files. */
  get freeRuns(): readonly BlockRun[] {
    return [...this.#free, ...this.#released];
  }

  /** Takes `count` blocks in as few runs as possible. Their old contents are undefined. */
  allocate(count: number): BlockRun[] {
    for (
      let index = this.#free.length - 1;
      index >= Math.max(0, this.#free.length - runsConsidered);
      index--
    ) {
      const run = this.#free[index];
      if (!run || run.length < count) continue;
      if (run.length === count) this.#free.splice(index, 1);
      else this.#free[index] = { start: run.start + count, length: run.length - count };
      this.#taken += count;
      return [{ start: run.start, length: count }];
    }
    return this.allocateFresh(count);
  }

  /** Takes blocks that were never written and read as zeros. */
  allocateFresh(count: number): BlockRun[] {
    const runs: BlockRun[] = [];
    this.#taken += count;
    for (let left = count; left > 0;) {
      if (this.#next === this.#limit) this.#enterNextGroup();
      const length = Math.min(left, this.#limit - this.#next);
      runs.push({ start: this.#next, length });
      this.#next += length;
      left -= length;
    }
    return runs;
  }

  release(runs: readonly BlockRun[]): void {
    for (const run of runs) {
      this.#released.push(run);
      this.#taken -= run.length;
    }
  }

  /** Makes released blocks available, neighbours joined. Sorting on each release would be quadratic. */
  reclaim(): void {
    if (this.#released.length === 0) return;
    const sorted = this.freeRuns.toSorted((a, b) => a.start - b.start);
    this.#released = [];
    this.#free = [];
    let open: BlockRun | undefined;
    for (const run of sorted) {
      if (open && open.start + open.length === run.start) {
        open = { start: open.start, length: open.length + run.length };
      } else {
        if (open) this.#free.push(open);
        open = run;
      }
    }
    if (open) this.#free.push(open);
  }

  #enterNextGroup(): void {
    this.#group++;
    const layout = groupLayout(this.#group);
    this.#next = layout.firstData;
    this.#limit = layout.start + blocksPerGroup;
  }
}
