import { blockSize, blocksPerGroup } from './format.ts';
import { groupLayout } from './geometry.ts';
import { type BlockRun, RunList } from './run-list.ts';

/** How many freed runs an allocation looks at before it takes fresh blocks instead. */
const runsConsidered = 16;
/** So many released runs are worth a look for neighbours among them */
const manyReleased = 2 ** 16;

/**
 * Hands out blocks in ascending order around the groups' metadata, and again
 * those that a later layer gave back.
 */
export class BlockAllocator {
  #next = groupLayout(0).firstData;
  #limit = groupLayout(0).end;
  #group = 0;
  #taken = 0;
  readonly #free = new RunList();
  readonly #released = new RunList();
  #tidyReleasedAt = manyReleased;

  /** First block past all that were handed out. */
  get end(): number {
    return this.#next;
  }

  /** What is handed out now. */
  get usedBytes(): number {
    return this.#taken * blockSize;
  }

  /** Memory for the blocks that were given back, which may be as many as there were files. */
  get heldBytes(): number {
    return (this.#free.length + this.#released.length) * 8;
  }

  /** Runs below `end` that nothing uses and that hold the contents of deleted files, ascending; of what was reclaimed. */
  get freeRuns(): Iterable<BlockRun> {
    return this.#free;
  }

  /** Takes `count` blocks in as few runs as possible. Their old contents are undefined. */
  allocate(count: number): BlockRun[] {
    const { length } = this.#free;
    for (let index = length - 1; index >= Math.max(0, length - runsConsidered); index--) {
      const run = this.#free.at(index);
      if (run.length < count) continue;
      if (run.length === count) this.#free.remove(index);
      else this.#free.set(index, { start: run.start + count, length: run.length - count });
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

  /** Gives blocks back. They can be had again once they were reclaimed. */
  release(run: BlockRun): void {
    this.#released.add(run);
    this.#taken -= run.length;
    if (this.#released.length < this.#tidyReleasedAt) return;
    this.#released.tidy();
    this.#tidyReleasedAt = Math.max(manyReleased, this.#released.length * 2);
  }

  /** Makes released blocks available, neighbours joined. Sorting on each release would be quadratic. */
  reclaim(): void {
    if (this.#released.length === 0) return;
    for (const run of this.#released) this.#free.add(run);
    this.#released.clear();
    this.#tidyReleasedAt = manyReleased;
    this.#free.tidy();
  }

  #enterNextGroup(): void {
    this.#group++;
    const layout = groupLayout(this.#group);
    this.#next = layout.firstData;
    this.#limit = layout.start + blocksPerGroup;
  }
}
