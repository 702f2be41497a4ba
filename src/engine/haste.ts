/**
 * Lets who is in a hurry past those who wait patiently for a guest. A stop holds its VM's lock for as long as its
 * guest may take, an hour if so told, and who wants to kill that VM queues behind it: the stop gives up waiting then.
 */
export class Haste {
  /** How many are in a hurry about each VM */
  readonly #hurried = new Map<string, number>();
  readonly #patient = new Map<string, Set<AbortController>>();
  /** What may be left undone, of each VM */
  readonly #idle = new Map<string, Set<AbortController>>();

  /** Ends patient waits for a VM, also those that would begin before `task` has ended. */
  async hurry<T>(id: string, task: () => Promise<T>): Promise<T> {
    this.#hurried.set(id, (this.#hurried.get(id) ?? 0) + 1);
    for (const wait of this.#patient.get(id) ?? []) wait.abort();
    this.wake(id);
    try {
      return await task();
    } finally {
      const left = this.#hurried.get(id)! - 1;
      if (left > 0) this.#hurried.set(id, left);
      else this.#hurried.delete(id);
    }
  }

  /** Runs what waits patiently. The signal says when to give up: somebody is in a hurry. */
  patiently<T>(id: string, task: (hurried: AbortSignal) => Promise<T>): Promise<T> {
    return this.#among(this.#patient, id, task);
  }

  /** Runs what may be left undone. The signal says when: somebody wants the VM, in a hurry or not. */
  idly<T>(id: string, task: (wanted: AbortSignal) => Promise<T>): Promise<T> {
    return this.#among(this.#idle, id, task);
  }

  /** Ends what may be left undone. */
  wake(id: string): void {
    for (const wait of this.#idle.get(id) ?? []) wait.abort();
  }

  async #among<T>(
    all: Map<string, Set<AbortController>>,
    id: string,
    task: (over: AbortSignal) => Promise<T>,
  ): Promise<T> {
    const wait = new AbortController();
    if (this.#hurried.has(id)) wait.abort();
    const waits = all.get(id) ?? new Set();
    all.set(id, waits.add(wait));
    try {
      return await task(wait.signal);
    } finally {
      waits.delete(wait);
      if (waits.size === 0) all.delete(id);
    }
  }
}
