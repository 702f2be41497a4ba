import { rm } from 'node:fs/promises';
import { Worker } from 'node:worker_threads';
import { abortError, BangerError, errnoOf } from '../../../errors.ts';
import type { ThreadScript } from '../../../host/assets.ts';
import { admitOptimizer, bulkBytes } from '../../optimizer.ts';
import type { ConvertOptions, ConvertResult } from '../layers/layers.ts';
import { partialPath } from '../layers/partial-path.ts';
import { decodeError } from '../sent-error.ts';
import { FileFeed, StreamFeed, type LayerFeed } from './layer-feeds.ts';
import type { FromThread, ThreadOptions, ToThread } from './thread-messages.ts';

/** Bytes of a layer that may be on their way to the thread. */
const windowBytes = 2 * 2 ** 20;
/** How long a cancelled thread may take to put its things away. */
const farewellMs = 3000;
/** Heap of the thread, for what passes through. What it keeps of an image lies outside, within the limits of a conversion. */
const heapLimits = { maxOldGenerationSizeMb: 96, maxYoungGenerationSizeMb: 16 };

/**
 * `convertLayers` in a thread of its own, so that the engine answers others meanwhile. Promises the same.
 *
 * Layers are opened here. Files are read by the thread; of others the bytes are copied to memory that both threads see.
 */
export async function convertInThread(options: ConvertOptions, script: ThreadScript): Promise<ConvertResult> {
  if (options.signal.aborted) throw abortError(options.signal);
  const { layers, signal, onProgress, ...rest } = options;
  const window = new SharedArrayBuffer(windowBytes);
  const workerData: ThreadOptions = {
    ...rest,
    window,
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
        const { layer } = message;
        const { open, openFile } = layers[layer]!;
        const feed = openFile
          ? new FileFeed(openFile, (file) => send(worker, { type: 'file', layer, ...file }))
          : new StreamFeed(open, window, (part) => send(worker, { type: 'data', layer, ...part }));
        feeds.set(layer, feed);
        void feed.run().then(
          () => send(worker, { type: 'end', layer, isBroken: false }),
          (error: unknown) => {
            sourceFailure ??= { error };
            send(worker, { type: 'end', layer, isBroken: true });
          },
        );
        return;
      }
      case 'taken':
        return feeds.get(message.layer)?.taken(message.bytes);
      case 'close':
        return feeds.get(message.layer)?.stop();
      case 'progress':
        if (message.progress.bytes > bulkBytes) admitOptimizer();
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

function send(worker: Worker, message: ToThread): void {
  worker.postMessage(message);
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
