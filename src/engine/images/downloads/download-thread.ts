import type { MessagePort } from 'node:worker_threads';
import { BangerError } from '../../../errors.ts';
import type { Log } from '../../log.ts';
import type { Progress } from '../../operations.ts';
import type { Reference } from '../reference.ts';
import { seldom } from '../seldom.ts';
import { decodeError, encodeError } from '../sent-error.ts';
import type { Downloads, Registries, Repository } from './downloads.ts';
import type { FromThread, Results, ToThread, Wanted } from './thread-messages.ts';

/** Defined by the build of what is released; see `failpoints.ts`. */
declare const isRelease: true | undefined;

/** What the thread's side of `downloadsInThread` has of the engine. */
export interface EngineSide {
  readonly registries: () => Registries;
  readonly log: Log;
}

/** The thread's side of `downloadsInThread`: fetches what the engine asks for, and tells it how that went. */
export function runDownloads(port: MessagePort, make: (engine: EngineSide) => Downloads): void {
  let registries: Registries = {};
  const tell = (message: FromThread): void => port.postMessage(message);
  const downloads = make({
    registries: () => registries,
    log: (level, message, fields) => tell({ type: 'log', level, message, fields }),
  });
  const repositories = new Map<number, () => Repository>();
  const calls = new Map<number, Call>();

  const answer = async (number: number, wanted: Wanted): Promise<void> => {
    const call = new Call(number, tell);
    calls.set(number, call);
    try {
      tell({
        type: 'done',
        call: number,
        result: await call.run(wanted, downloads, (key) => repositories.get(key)!()),
      });
    } catch (error) {
      tell({ type: 'failed', call: number, error: encodeError(error) });
    } finally {
      calls.delete(number);
    }
  };
  port.on('message', (message: ToThread) => {
    switch (message.type) {
      case 'registries':
        registries = message.registries;
        return;
      case 'open':
        return void repositories.set(message.repository, opened(downloads, message.reference));
      case 'close':
        return void repositories.delete(message.repository);
      case 'call':
        // Never rejects: every outcome is told.
        return void answer(message.call, message.wanted);
      case 'cancel':
        return calls.get(message.call)?.cancel();
      case 'go on':
        return calls.get(message.call)?.goOn(message.error && decodeError(message.error));
    }
  });
}

/** What is wrong with it is the matter of whoever wants something of it. */
function opened(downloads: Downloads, reference: Reference): () => Repository {
  try {
    const repository = downloads.repository(reference);
    return () => repository;
  } catch (error) {
    return () => {
      throw error;
    };
  }
}

class Call {
  readonly #number: number;
  readonly #tell: (message: FromThread) => void;
  readonly #abort = new AbortController();
  #passed = Promise.withResolvers<void>();

  constructor(number: number, tell: (message: FromThread) => void) {
    this.#number = number;
    this.#tell = tell;
  }

  cancel(): void {
    this.#abort.abort(new BangerError('cancelled', 'Cancelled'));
  }

  goOn(error: Error | undefined): void {
    if (error) this.#passed.reject(error);
    else this.#passed.resolve();
  }

  async run(
    wanted: Wanted,
    downloads: Downloads,
    repository: (key: number) => Repository,
  ): Promise<Results[Wanted['kind']]> {
    const call = this.#number;
    const { signal } = this.#abort;
    switch (wanted.kind) {
      case 'manifest':
        return repository(wanted.repository).manifest(wanted.tagOrDigest, signal);
      case 'small blob':
        return repository(wanted.repository).smallBlob(wanted.digest, signal);
      case 'blob':
        return repository(wanted.repository).blob({
          directory: wanted.directory,
          blob: wanted.blob,
          signal,
          onProgress: (state, done) => this.#tell({ type: 'blob', call, state, done }),
          reached: (point) => this.#reach(point),
        });
      case 'file': {
        const { url, sha256, use, path } = wanted;
        const progress = seldom((told: Omit<Progress, 'stage'>) =>
          this.#tell({ type: 'progress', call, progress: told }),
        );
        await downloads.file({ url: new URL(url), sha256, use }, path, { signal, progress });
        return undefined;
      }
    }
  }

  /** The engine decides what happens here, as it would at a point of its own. */
  async #reach(point: string): Promise<void> {
    if (typeof isRelease !== 'undefined') return;
    this.#passed = Promise.withResolvers();
    this.#tell({ type: 'reached', call: this.#number, point });
    await this.#passed.promise;
  }
}
