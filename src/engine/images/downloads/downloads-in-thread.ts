import { AsyncLocalStorage } from 'node:async_hooks';
import { Worker } from 'node:worker_threads';
import { abortError, BangerError } from '../../../errors.ts';
import type { ThreadScript } from '../../../host/assets.ts';
import { failpoint } from '../../failpoints.ts';
import type { Log } from '../../log.ts';
import type { Operation } from '../../operations.ts';
import type { Reference } from '../reference.ts';
import { decodeError, encodeError } from '../sent-error.ts';
import type { Downloads, Registries, Repository, WantedBlob } from './downloads.ts';
import type { FromThread, Results, ToThread, Wanted } from './thread-messages.ts';

export interface DownloadThreadOptions {
  readonly script: () => ThreadScript;
  readonly registries: () => Registries;
  readonly log: Log;
  /** How long a thread is kept that has nothing to do; the next pull starts sooner, and its connections are open */
  readonly restMs?: number;
}

const defaultRestMs = 30_000;
/** Heap of the thread: documents are of a few megabytes, blobs pass through. */
const heapLimits = { maxOldGenerationSizeMb: 128, maxYoungGenerationSizeMb: 8 };

/**
 * Fetches in a thread that all downloads share. Loading what speaks HTTP, trusting a few hundred authorities, hashing
 * and writing what comes: all of it would keep the engine from answering others.
 *
 * The thread is started when it is wanted and ends when nobody has wanted anything for a while, its memory with it.
 */
export function downloadsInThread(options: DownloadThreadOptions): Downloads {
  let current: DownloadThread | undefined;
  const running = (): DownloadThread => {
    if (!current?.isRunning) current = new DownloadThread(options);
    return current;
  };
  return {
    repository: (reference) => running().repository(reference),
    file: ({ url, sha256, use }, path, operation) =>
      running().file({ kind: 'file', url: url.href, sha256, use, path }, operation),
  };
}

/** A call that has not come back. */
interface Pending {
  readonly settle: (result: Results[Wanted['kind']]) => void;
  readonly fail: (error: Error) => void;
  readonly onProgress?: WantedBlob['onProgress'];
  readonly progress?: Operation['progress'];
  /** Does something as whoever called would: failpoints are those of its operation */
  readonly asCaller: <T>(task: () => T) => T;
}

class DownloadThread {
  readonly #worker: Worker;
  readonly #options: DownloadThreadOptions;
  readonly #calls = new Map<number, Pending>();
  /** Numbers of calls and repositories so far */
  #count = 0;
  /** Calls under way, and repositories that are open */
  #users = 0;
  #resting: NodeJS.Timeout | undefined;
  #end: Error | undefined;

  constructor(options: DownloadThreadOptions) {
    const { source, isText } = options.script();
    this.#options = options;
    this.#worker = new Worker(source, {
      eval: isText,
      resourceLimits: heapLimits,
      execArgv: ['--no-warnings'],
      name: 'download',
    });
    this.#worker.on('message', (message: FromThread) => this.#hear(message));
    this.#worker.once('error', (error) => this.#fail(ended('failed', error)));
    this.#worker.once('exit', () => this.#fail(ended('ended')));
    // Whoever waits for a download keeps the process; an idle thread does not.
    this.#worker.unref();
  }

  get isRunning(): boolean {
    return this.#end === undefined;
  }

  repository(reference: Reference): Repository {
    const repository = ++this.#count;
    const use = this.#use();
    this.#send({ type: 'registries', registries: this.#options.registries() });
    this.#send({ type: 'open', repository, reference });
    return {
      manifest: async (tagOrDigest, signal) => {
        const wanted = { kind: 'manifest', repository, tagOrDigest } as const;
        const { bytes, digest } = await this.#call(wanted, { signal });
        return { bytes: bufferOf(bytes), digest };
      },
      smallBlob: async (digest, signal) =>
        bufferOf(await this.#call({ kind: 'small blob', repository, digest }, { signal })),
      blob: ({ directory, blob, signal, onProgress }) =>
        this.#call({ kind: 'blob', repository, directory, blob }, { signal, onProgress }),
      [Symbol.dispose]: () => {
        this.#send({ type: 'close', repository });
        use[Symbol.dispose]();
      },
    };
  }

  file(
    wanted: Extract<Wanted, { kind: 'file' }>,
    operation: Pick<Operation, 'signal' | 'progress'>,
  ): Promise<undefined> {
    this.#send({ type: 'registries', registries: this.#options.registries() });
    return this.#call(wanted, {
      signal: operation.signal,
      progress: (progress) => operation.progress(progress),
    });
  }

  async #call<W extends Wanted>(
    wanted: W,
    { signal, ...listeners }: { readonly signal: AbortSignal } & Pick<Pending, 'onProgress' | 'progress'>,
  ): Promise<Results[W['kind']]> {
    if (signal.aborted) throw abortError(signal);
    if (this.#end) throw this.#end;
    const use = this.#use();
    const call = ++this.#count;
    const { promise, resolve, reject } = Promise.withResolvers<Results[Wanted['kind']]>();
    this.#calls.set(call, {
      settle: resolve,
      fail: reject,
      ...listeners,
      asCaller: AsyncLocalStorage.snapshot(),
    });
    const onAbort = (): void => this.#send({ type: 'cancel', call });
    signal.addEventListener('abort', onAbort, { once: true });
    this.#send({ type: 'call', call, wanted });
    try {
      return (await promise) as Results[W['kind']];
    } catch (error) {
      if (signal.aborted) throw abortError(signal);
      throw error;
    } finally {
      signal.removeEventListener('abort', onAbort);
      this.#calls.delete(call);
      use[Symbol.dispose]();
    }
  }

  #hear(message: FromThread): void {
    if (message.type === 'log') return this.#options.log(message.level, message.message, message.fields);
    const pending = this.#calls.get(message.call);
    switch (message.type) {
      case 'blob':
        return pending?.onProgress?.(message.state, message.done);
      case 'progress':
        return pending?.progress?.(message.progress);
      case 'done':
        return pending?.settle(message.result);
      case 'failed':
        return pending?.fail(decodeError(message.error));
      case 'reached':
        return void pending?.asCaller(() => this.#pass(message.call, message.point));
    }
  }

  async #pass(call: number, point: string): Promise<void> {
    const failure = await failpoint(point).then(
      () => undefined,
      (error: unknown) => encodeError(error),
    );
    this.#send({ type: 'go on', call, error: failure });
  }

  /** What has ended stays so: the next download has a thread of its own. */
  #fail(error: Error): void {
    this.#end ??= error;
    clearTimeout(this.#resting);
    for (const { fail } of this.#calls.values()) fail(this.#end);
  }

  #send(message: ToThread): void {
    this.#worker.postMessage(message);
  }

  #use(): Disposable {
    if (this.#users++ === 0) {
      clearTimeout(this.#resting);
      this.#worker.ref();
    }
    return {
      [Symbol.dispose]: () => {
        if (--this.#users > 0) return;
        this.#worker.unref();
        this.#resting = setTimeout(() => this.#letGo(), this.#options.restMs ?? defaultRestMs).unref();
      },
    };
  }

  #letGo(): void {
    this.#end ??= ended('ended');
    void this.#worker.terminate();
  }
}

function ended(how: string, cause?: unknown): BangerError {
  return new BangerError('internal', `The thread that downloads ${how}`, {
    hint: 'Try again; what has come of a layer is gone on with',
    cause,
  });
}

function bufferOf({ buffer, byteOffset, length }: Uint8Array): Buffer {
  return Buffer.from(buffer, byteOffset, length);
}
