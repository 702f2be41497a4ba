import { open, type FileHandle } from 'node:fs/promises';
import { errnoOf } from '../../../errors.ts';
import type { Operation, Progress } from '../../operations.ts';
import { ensureBlob } from './blobs.ts';
import { imageServices, type ImagesContext } from '../image-services.ts';
import type { LayerSource } from '../layers/layers.ts';
import { layerName, type LayerProgress } from './layer-progress.ts';
import type { Descriptor } from './manifest.ts';
import type { Registry } from './registry.ts';
import type { ResolvedImage } from './resolve-image.ts';

export interface DownloadsInput {
  readonly resolved: ResolvedImage;
  readonly registry: Registry;
  readonly progress: LayerProgress;
}

const parallelDownloads = 3;
const readBytes = 1 << 20;

/**
 * The layers of a pull on their way into the cache, a few at a time, lowest first.
 *
 * A layer that occurs twice is fetched once, and one that another pull is fetching is waited for.
 */
export class LayerDownloads {
  readonly #fetch: (blob: Descriptor) => Promise<string>;
  /** Paths in the cache by digest */
  readonly #paths: ReadonlyMap<string, Promise<string>>;
  /** Fulfilled when all layers are there; rejected with the first that does not come */
  readonly all: Promise<unknown>;

  constructor(
    context: ImagesContext,
    { resolved, registry, progress }: DownloadsInput,
    operation: Operation,
  ) {
    this.#fetch = (blob) => fetchLayer(context, { blob, registry, progress }, operation);
    const unique = [...new Map(resolved.layers.map((layer) => [layer.digest, layer])).values()];
    const queue = unique.map((blob) => ({ blob, ...Promise.withResolvers<string>() }));
    this.#paths = new Map(queue.map(({ blob, promise }) => [blob.digest, promise]));
    this.all = Promise.all(this.#paths.values());
    const work = async (): Promise<void> => {
      for (let next = queue.shift(); next; next = queue.shift()) {
        await this.#fetch(next.blob).then(next.resolve, next.reject);
      }
    };
    // Never rejects: every outcome goes to the promise of its layer.
    for (let worker = 0; worker < parallelDownloads; worker++) void work();
  }

  /** Returns when nothing is on its way any more, however it ended. */
  async settled(): Promise<void> {
    await Promise.allSettled(this.#paths.values());
  }

  /** A layer for the converter; reading begins as soon as its download is complete. */
  source(blob: Descriptor, diffId: string): LayerSource {
    return { open: () => this.#content(blob), diffId, label: layerName(blob.digest) };
  }

  async *#content(blob: Descriptor): AsyncGenerator<Buffer> {
    const path = await this.#paths.get(blob.digest)!;
    // Nobody but this engine should touch the cache, but people do empty it.
    const file = (await openIfThere(path)) ?? (await open(await this.#fetch(blob), 'r'));
    yield* file.createReadStream({ highWaterMark: readBytes }) as AsyncIterable<Buffer>;
  }
}

async function openIfThere(path: string): Promise<FileHandle | undefined> {
  try {
    return await open(path, 'r');
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return undefined;
    throw error;
  }
}

interface LayerRequest {
  readonly blob: Descriptor;
  readonly registry: Registry;
  readonly progress: LayerProgress;
}

async function fetchLayer(
  context: ImagesContext,
  { blob, registry, progress }: LayerRequest,
  { id, kind, signal }: Operation,
): Promise<string> {
  const { tools, blobs } = imageServices(context);
  const waiter = {
    id,
    kind,
    signal,
    enter: () => undefined,
    progress: ({ parts }: Omit<Progress, 'stage'>) => {
      for (const { state, done } of parts ?? []) progress.set(blob.digest, state, done);
    },
  };
  const name = layerName(blob.digest);
  return blobs.join(blob.digest, waiter, (shared) =>
    ensureBlob({
      directory: context.layout.blobsDirectory,
      blob,
      source: (from, blobSignal) => registry.blob(blob.digest, from, blobSignal),
      signal: shared.signal,
      retryDelayMs: tools.retryDelayMs,
      pace: tools.pace,
      onProgress: (state, done) => shared.progress({ parts: [{ name, state, done }] }),
    }),
  );
}
