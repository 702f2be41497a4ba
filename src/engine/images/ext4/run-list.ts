import { NumberList } from './number-list.ts';

/** Consecutive blocks. */
export interface BlockRun {
  readonly start: number;
  readonly length: number;
}

/** No run leaves its group, and so none is as long as this. */
const lengthLimit = 2 ** 16;

/** Runs of blocks, each in one number: by the start first when they are sorted. */
export class RunList implements Iterable<BlockRun> {
  readonly #runs = new NumberList();

  get length(): number {
    return this.#runs.length;
  }

  at(index: number): BlockRun {
    return decoded(this.#runs.at(index));
  }

  set(index: number, run: BlockRun): void {
    this.#runs.set(index, encoded(run));
  }

  remove(index: number): void {
    this.#runs.remove(index);
  }

  /** Adds a run; one that goes on where the last one ended, or ends where it began, becomes one with it. */
  add(run: BlockRun): void {
    const index = this.#runs.length - 1;
    const joined = index >= 0 ? join(this.at(index), run) : undefined;
    if (joined) this.set(index, joined);
    else this.#runs.push(encoded(run));
  }

  clear(): void {
    this.#runs.truncate(0);
  }

  /** Makes them ascend, neighbours joined. */
  tidy(): void {
    this.#runs.sort();
    let last = 0;
    for (let index = 1; index < this.#runs.length; index++) {
      const joined = join(this.at(last), this.at(index));
      if (joined) this.set(last, joined);
      else this.#runs.set(++last, this.#runs.at(index));
    }
    if (last + 1 < this.#runs.length) this.#runs.truncate(last + 1);
  }

  *[Symbol.iterator](): Iterator<BlockRun> {
    for (let index = 0; index < this.#runs.length; index++) yield this.at(index);
  }
}

function join(a: BlockRun, b: BlockRun): BlockRun | undefined {
  if (a.start + a.length === b.start) return { start: a.start, length: a.length + b.length };
  if (b.start + b.length === a.start) return { start: b.start, length: a.length + b.length };
  return undefined;
}

function encoded({ start, length }: BlockRun): number {
  return start * lengthLimit + length;
}

function decoded(run: number): BlockRun {
  return { start: Math.floor(run / lengthLimit), length: run % lengthLimit };
}
