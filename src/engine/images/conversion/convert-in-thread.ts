import { rm } from 'node:fs/promises';
import { Worker } from 'node:worker_threads';
import { abortError, BangerError, errnoOf } from '../../../errors.ts';
import type { ThreadScript } from '../../../host/assets.ts';
import type { ConvertOptions, ConvertResult, LayerSource } from '../layers/layers.ts';
import { partialPath } from '../layers/partial-path.ts';
import { decodeError, type FromThread, type ThreadOptions, type ToThread } from './thread-messages.ts';

/** Bytes of a layer that may be on their way to the thread. */
const windowBytes = 4 * 2 ** 20;
/** Only what is larger is worth handing over instead of copying. */
const transferBytes = 64 * 1024;
/** How long a cancelled thread may take to put its things away. */
const farewellMs = 3000;
/** Heap of the thread. What it keeps of an image is outside of it, and bounded by the limits of a conversion. */
const heapLimits = { maxOldGenerationSizeMb: 256, maxYoungGenerationSizeMb: 16 };

/**
 * `convertLayers` in a thread of its own, so that the engine answers others meanwhile. Promises the same.
 *
 * Layers are opened and read here. Chunks that have a buffer to themselves are handed over to the thread: whoever
 * opened the layer does not get them back.
 */
export async function convertInThread(options: ConvertOptions, script: ThreadScript): Promise<ConvertResult> {
  if (options.signal.aborted) throw abortError(options.signal);
  const { layers, signal, onProgress, ...rest } = options;
  const workerData: ThreadOptions = {
    ...rest,
    layers: layers.map(({ label, diffId }) => ({ label, diffId })),
  };
  const worker = new Worker(script.source, {
    eval: script.isText,
    workerData,
    resourceLimits: heapLimits,
    execArgv: ['--no-warnings'],
    name: 'conversion',
  });
  const feeds = new Map<number, LayerFeed>();
  const outcome = Promise.withResolvers<ConvertResult>();
  const exited = new Promise<void>((resolve) => worker.once('exit', () => resolve()));
  let sourceFailure: { readonly error: unknown } | undefined;

  worker.on('message', (message: FromThread) => {
    switch (message.type) {
      case 'open': {
        const feed = new LayerFeed(layers[message.layer]!, (data) => sendData(worker, message.layer, data));
        feeds.set(message.layer, feed);
        void feed.run().then(
          () => send(worker, { type: 'end', layer: message.layer, isBroken: false }),
          (error: unknown) => {
            sourceFailure ??= { error };
            send(worker, { type: 'end', layer: message.layer, isBroken: true });
          },
        );
        return;
      }
      case 'taken':
        return feeds.get(message.layer)?.taken(message.bytes);
      case 'close':
        return feeds.get(message.layer)?.stop();
      case 'progress':
        return onProgress?.(message.progress);
      case 'done':
        return outcome.resolve(message.result);
      case 'failed':
        return outcome.reject(decodeError(message.error));
    }
  });
  worker.once('error', (error) => outcome.reject(threadError(error)));
  void exited.then(() =>
    outcome.reject(new BangerError('internal', 'The thread that converts the image ended')),
  );

  let farewell: NodeJS.Timeout | undefined;
  const onAbort = (): void => {
    send(worker, { type: 'cancel' });
    farewell = setTimeout(() => void worker.terminate(), farewellMs);
  };
  signal.addEventListener('abort', onAbort, { once: true });
  try {
    return await outcome.promise;
  } catch (error) {
    // Usually it ends by itself, its things put away.
    farewell ??= setTimeout(() => void worker.terminate(), farewellMs);
    await exited;
    // What cannot be removed goes with the staging directory; the error at hand says more.
    await rm(partialPath(options), { force: true }).catch(() => undefined);
    if (signal.aborted) throw abortError(signal);
    throw sourceFailure ? sourceFailure.error : error;
  } finally {
    clearTimeout(farewell);
    signal.removeEventListener('abort', onAbort);
    for (const feed of feeds.values()) feed.stop();
  }
}

/** Reads a layer as fast as the thread takes it. */
class LayerFeed {
  readonly #source: LayerSource;
  readonly #send: (data: Buffer) => void;
  #underway = 0;
  #isStopped = false;
  #wake: () => void = () => undefined;

  constructor(source: LayerSource, sendChunk: (data: Buffer) => void) {
    this.#source = source;
    this.#send = sendChunk;
  }

  async run(): Promise<void> {
    for await (const chunk of this.#source.open()) {
      const data = chunk as Buffer;
      this.#underway += data.length;
      this.#send(data);
      while (this.#underway >= windowBytes && !this.#isStopped) {
        await new Promise<void>((resolve) => (this.#wake = resolve));
      }
      if (this.#isStopped) return;
    }
  }

  taken(bytes: number): void {
    this.#underway -= bytes;
    this.#wake();
  }

  stop(): void {
    this.#isStopped = true;
    this.#wake();
  }
}

function send(worker: Worker, message: ToThread): void {
  worker.postMessage(message);
}

function sendData(worker: Worker, layer: number, data: Buffer): void {
  const owner = data.buffer;
  const isWhole =
    owner instanceof ArrayBuffer && data.length === owner.byteLength && data.length >= transferBytes;
  const message: ToThread = { type: 'data', layer, data };
  worker.postMessage(message, isWhole ? [owner] : []);
}

function threadError(error: unknown): BangerError {
  if (errnoOf(error) === 'ERR_WORKER_OUT_OF_MEMORY') {
    return new BangerError(
      'invalid_argument',
      'The image has more files than there is memory to convert it',
      {
        cause: error,
      },
    );
  }
  return new BangerError('internal', 'The thread that converts the image failed', { cause: error });
}
