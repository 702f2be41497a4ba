const fewest = 16;

/** A growing list of numbers that takes eight bytes for each: V8's own takes up to twelve, and objects forty and more. */
export class NumberList {
  #numbers: Float64Array;
  #length = 0;

  /** With room for so many from the beginning. */
  constructor(capacity = fewest) {
    this.#numbers = new Float64Array(Math.max(capacity, fewest));
  }

  get length(): number {
    return this.#length;
  }

  at(index: number): number {
    return this.#numbers[index]!;
  }

  set(index: number, value: number): void {
    this.#numbers[index] = value;
  }

  push(value: number): void {
    if (this.#length === this.#numbers.length) {
      const larger = new Float64Array(this.#length * 2);
      larger.set(this.#numbers);
      this.#numbers = larger;
    }
    this.#numbers[this.#length++] = value;
  }

  /** Drops what is behind the first `length`; memory is given back when there is nothing left. */
  truncate(length: number): void {
    this.#length = length;
    if (length === 0) this.#numbers = new Float64Array(fewest);
  }

  remove(index: number): void {
    this.#numbers.copyWithin(index, index + 1, this.#length);
    this.#length--;
  }

  /** Ascending. */
  sort(): void {
    this.#numbers.subarray(0, this.#length).sort();
  }
}
