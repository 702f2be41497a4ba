import { createReadStream } from 'node:fs';
import { Readable } from 'node:stream';
import type { Operation, Progress } from '../../operations.ts';
import { ensureBlob } from './blobs.ts';
import { imageServices, type ImagesContext } from '../image-services.ts';
import type { LayerSource } from '../layers/layers.ts';
import { layerName, type LayerProgress } from './layer-progress.ts';
import type { Descriptor } from './manifest.ts';
import type { Registry } from './registry.ts';
import type { ResolvedImage } from './resolve-image.ts';

/** Paths in the cache by digest, once the layers are there. */
export type Downloads = ReadonlyMap<string, Promise<string>>;

export interface DownloadsInput {
  readonly resolved: ResolvedImage;
  readonly registry: Registry;
  readonly progress: LayerProgress;
}

const parallelDownloads = 3;

/**
 * Begins to fetch all layers, a few at a time, lowest first.
 *
 * A layer that occurs twice is fetched once, and one that another pull is fetching is waited for. The caller handles
 * the rejection of every promise.
 */
export function startDownloads(
  context: ImagesContext,
  { resolved, registry, progress }: DownloadsInput,
  operation: Operation,
): Downloads {
  const unique = [...new Map(resolved.layers.map((layer) => [layer.digest, layer])).values()];
  const queue = unique.map((blob) => ({ blob, ...Promise.withResolvers<string>() }));
  const downloads = new Map(queue.map(({ blob, promise }) => [blob.digest, promise]));
  const work = async (): Promise<void> => {
    for (let next = queue.shift(); next; next = queue.shift()) {
      const { blob, resolve, reject } = next;
      await fetchLayer(context, { blob, registry, progress }, operation).then(resolve, reject);
    }
  };
  // Never rejects: every outcome goes to the promise of its layer.
  for (let worker = 0; worker < parallelDownloads; worker++) void work();
  return downloads;
}

/** A layer for the converter; reading begins as soon as its download is complete. */
export function layerSource({ digest }: Descriptor, diffId: string, downloads: Downloads): LayerSource {
  async function* content(): AsyncGenerator<Buffer> {
    const path = await downloads.get(digest)!;
    yield* createReadStream(path, { highWaterMark: 1 << 20 }) as AsyncIterable<Buffer>;
  }
  const label = `layer ${layerName(digest)}`;
  return { open: () => Readable.from(content(), { objectMode: false }), diffId, label };
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
      onWrong: () => registry.giveUpMirror(),
      signal: shared.signal,
      retryDelayMs: tools.retryDelayMs,
      onProgress: (state, done) => shared.progress({ parts: [{ name, state, done }] }),
    }),
  );
}
