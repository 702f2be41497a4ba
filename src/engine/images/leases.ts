/** Marks things as in use by work that goes on, of which no row tells yet: whoever tidies up leaves them alone. */
export class Leases {
  readonly #counts = new Map<string, number>();

  /** Until it is disposed of, none of these may be removed. */
  take(keys: readonly string[]): Disposable {
    for (const key of keys) this.#counts.set(key, (this.#counts.get(key) ?? 0) + 1);
    let isHeld = true;
    return {
      [Symbol.dispose]: () => {
        if (!isHeld) return;
        isHeld = false;
        for (const key of keys) {
          const count = this.#counts.get(key)! - 1;
          if (count === 0) this.#counts.delete(key);
          else this.#counts.set(key, count);
        }
      },
    };
  }

  isTaken(key: string): boolean {
    return this.#counts.has(key);
  }
}
