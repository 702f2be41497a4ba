import { AsyncLocalStorage } from 'node:async_hooks';
import { abortError } from '../errors.ts';

/**
 * The order in which locks are taken; a lock is never taken while one of the same or a later rank is held.
 * `vm` and `workspace` are never held together: `stop` must not queue behind an upload.
 */
const ranks = { vm: 0, workspace: 1, reservation: 2, publish: 2, leaf: 3 } as const;

export type LockKind = keyof typeof ranks;

interface Held {
  readonly kind: LockKind;
  readonly key: string;
}

const held = new AsyncLocalStorage<readonly Held[]>();

/**
 * Lets one task at a time work on a key, first come first served. Waiting ends when the signal fires.
 *
 * Throws when locks are taken against the order: that is a deadlock waiting for its day, so it fails on the first.
 */
export class KeyedLock {
  readonly kind: LockKind;
  readonly #tails = new Map<string, Promise<void>>();

  constructor(kind: LockKind) {
    this.kind = kind;
  }

  async run<T>(key: string, signal: AbortSignal, task: () => Promise<T>): Promise<T> {
    const outer = held.getStore() ?? [];
    checkOrder(outer, { kind: this.kind, key });

    const previous = this.#tails.get(key) ?? Promise.resolve();
    const turn = Promise.withResolvers<void>();
    // A waiter that gives up ends its own turn at once, but the tail still includes `previous`, so that nobody
    // behind it overtakes the holder.
    const tail = previous.then(() => turn.promise);
    this.#tails.set(key, tail);
    void tail.then(() => {
      if (this.#tails.get(key) === tail) this.#tails.delete(key);
    });

    try {
      await settledOrAborted(previous, signal);
      return await held.run([...outer, { kind: this.kind, key }], task);
    } finally {
      turn.resolve();
    }
  }

  /** True while somebody holds or waits for the key. */
  isTaken(key: string): boolean {
    return this.#tails.has(key);
  }
}

/**
 * Starts work that outlives the locks of whoever starts it. Without this it would count as holding them for ever,
 * since what is held is known by who called whom.
 */
export function withoutLocks<T>(task: () => T): T {
  return held.run([], task);
}

/** The engine's locks. Code that needs several takes them in the order of `ranks`. */
export interface EngineLocks {
  readonly vm: KeyedLock;
  readonly workspace: KeyedLock;
  readonly reservation: KeyedLock;
  readonly publish: KeyedLock;
  /** Bridges, taps and rules of the host */
  readonly taps: KeyedLock;
}

export function createLocks(): EngineLocks {
  return {
    vm: new KeyedLock('vm'),
    workspace: new KeyedLock('workspace'),
    reservation: new KeyedLock('reservation'),
    publish: new KeyedLock('publish'),
    taps: new KeyedLock('leaf'),
  };
}

function checkOrder(outer: readonly Held[], wanted: Held): void {
  for (const lock of outer) {
    const isVmAndWorkspace = lock.kind === 'vm' && wanted.kind === 'workspace';
    if (ranks[lock.kind] < ranks[wanted.kind] && !isVmAndWorkspace) continue;
    throw new Error(
      `Lock order: ${wanted.kind} [${wanted.key}] wanted while holding ${lock.kind} [${lock.key}]`,
    );
  }
}

async function settledOrAborted(previous: Promise<void>, signal: AbortSignal): Promise<void> {
  if (signal.aborted) throw abortError(signal);
  const aborted = Promise.withResolvers<never>();
  const onAbort = (): void => aborted.reject(abortError(signal));
  signal.addEventListener('abort', onAbort, { once: true });
  try {
    await Promise.race([previous, aborted.promise]);
  } finally {
    signal.removeEventListener('abort', onAbort);
  }
}
