import { lookup as dnsLookup } from 'node:dns/promises';

/** Lookups take threads that everything else needs too. */
const maxRunning = 2;

/** For whom a name is looked up, and until when they want to know. */
export interface LookupFor {
  /** One guest's, whoever that is */
  readonly client: object;
  readonly signal: AbortSignal;
}

type Find = (name: string) => Promise<readonly string[]>;

/**
 * Looks names up as this host does, for many guests: each decides how many names it asks for, and how long whoever
 * serves them takes. So one has one looked up at a time, and those that wait take turns, guest by guest.
 */
export class Lookups {
  readonly #find: Find;
  readonly #running = new Set<object>();
  /** In the order of their turns */
  readonly #queues = new Map<object, (() => void)[]>();

  constructor(find: Find = findAddresses) {
    this.#find = find;
  }

  /** All addresses of a name. Rejects when nobody wants to know any more. */
  async lookup(name: string, { client, signal }: LookupFor): Promise<readonly string[]> {
    const { promise, resolve, reject } = Promise.withResolvers<readonly string[]>();
    const start = (): void => {
      this.#running.add(client);
      const end = (): void => {
        this.#running.delete(client);
        this.#setQueue(client, this.#queues.get(client) ?? []);
        this.#startNext();
      };
      // It cannot be cancelled, and has its thread until it ends.
      this.#find(name).finally(end).then(resolve, reject);
    };
    const giveUp = (): void => {
      this.#forget(client, start);
      reject(new Error('nobody wants to know'));
    };
    if (signal.aborted) giveUp();
    else {
      signal.addEventListener('abort', giveUp, { once: true });
      this.#queues.set(client, [...(this.#queues.get(client) ?? []), start]);
      this.#startNext();
    }
    return promise.finally(() => signal.removeEventListener('abort', giveUp));
  }

  #startNext(): void {
    for (const [client, queue] of this.#queues) {
      if (this.#running.size >= maxRunning) return;
      if (this.#running.has(client)) continue;
      const [first, ...others] = queue;
      this.#setQueue(client, others);
      first?.();
    }
  }

  /** Behind the others: whoever has had a turn waits for theirs. */
  #setQueue(client: object, queue: (() => void)[]): void {
    this.#queues.delete(client);
    if (queue.length > 0) this.#queues.set(client, queue);
  }

  #forget(client: object, start: () => void): void {
    const others = this.#queues.get(client)?.filter((one) => one !== start) ?? [];
    if (others.length > 0) this.#queues.set(client, others);
    else this.#queues.delete(client);
  }
}

async function findAddresses(name: string): Promise<readonly string[]> {
  return (await dnsLookup(name, { all: true })).map(({ address }) => address);
}
