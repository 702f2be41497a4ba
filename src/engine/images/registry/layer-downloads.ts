import type { Operation, Progress } from '../../operations.ts';
import { ArrivingBlob } from './arriving-blob.ts';
import type { Repository } from '../downloads/downloads.ts';
import { imageServices, type ImagesContext } from '../image-services.ts';
import type { LayerSource } from '../layers/layers.ts';
import { layerName, type LayerProgress } from './layer-progress.ts';
import type { Descriptor } from './manifest.ts';
import type { ResolvedImage } from './resolve-image.ts';

export interface DownloadsInput {
  readonly resolved: ResolvedImage;
  readonly repository: Repository;
  readonly progress: LayerProgress;
}

const parallelDownloads = 3;

/**
 * The layers of a pull on their way into the cache, a few at a time, lowest first.
 *
 * A layer that occurs twice is fetched once, and one that another pull is fetching is waited for.
 */
export class LayerDownloads {
  readonly #fetch: (blob: Descriptor) => Promise<unknown>;
  readonly #arriving: ReadonlyMap<string, ArrivingBlob>;
  /** Fulfilled when all layers are there; rejected with the first that does not come */
  readonly all: Promise<unknown>;

  constructor(
    context: ImagesContext,
    { resolved, repository, progress }: DownloadsInput,
    operation: Operation,
  ) {
    const { blobsDirectory } = context.layout;
    const queue = [...new Map(resolved.layers.map((layer) => [layer.digest, layer])).values()];
    this.#arriving = new Map(queue.map(({ digest }) => [digest, new ArrivingBlob(blobsDirectory, digest)]));
    this.#fetch = (blob) => {
      const arriving = this.#arriving.get(blob.digest)!;
      return fetchLayer(context, { blob, repository, progress, arriving }, operation);
    };
    this.all = this.#whole(() => true);
    const work = async (): Promise<void> => {
      for (let next = queue.shift(); next; next = queue.shift()) {
        const arriving = this.#arriving.get(next.digest)!;
        await this.#fetch(next).then(
          () => arriving.complete(),
          (error: unknown) => arriving.fail(error),
        );
      }
    };
    // Never rejects: every outcome goes to the blob it is about.
    for (let worker = 0; worker < parallelDownloads; worker++) void work();
  }

  /** Returns when nothing is on its way any more, however it ended. */
  async settled(): Promise<void> {
    await Promise.allSettled([...this.#arriving.values()].map((blob) => blob.whole));
  }

  /** A layer for the converter; reading begins while its download goes on, before anybody knows its hash. */
  source(blob: Descriptor, diffId: string): LayerSource {
    const arriving = this.#arriving.get(blob.digest)!;
    const refetch = (): Promise<unknown> => this.#fetch(blob);
    return {
      open: () => arriving.read(refetch),
      openFile: () => arriving.open(refetch),
      diffId,
      label: layerName(blob.digest),
    };
  }

  isHere({ digest }: Descriptor): boolean {
    return this.#arriving.get(digest)!.isWhole;
  }

  /** Waits until the layers that were read so far are complete; rejected when one of them is not what it should be. */
  async readWhole(): Promise<void> {
    await this.#whole((blob) => blob.isBeingRead);
  }

  /** A download began again after some of it had been read: what was made of it has to be made again. */
  get wereReadInVain(): boolean {
    return [...this.#arriving.values()].some((blob) => blob.wasReadInVain);
  }

  async #whole(isWanted: (blob: ArrivingBlob) => boolean): Promise<void> {
    await Promise.all([...this.#arriving.values()].filter(isWanted).map((blob) => blob.whole));
  }
}

interface LayerRequest {
  readonly blob: Descriptor;
  readonly repository: Repository;
  readonly progress: LayerProgress;
  readonly arriving: ArrivingBlob;
}

async function fetchLayer(
  context: ImagesContext,
  { blob, repository, progress, arriving }: LayerRequest,
  { id, kind, signal }: Operation,
): Promise<string> {
  const { blobs } = imageServices(context);
  const waiter = {
    id,
    kind,
    signal,
    enter: () => undefined,
    progress: ({ parts }: Omit<Progress, 'stage'>) => {
      for (const { state, done } of parts ?? []) {
        if (state === 'downloading') arriving.grow(done ?? 0);
        progress.set(blob.digest, state, done);
      }
    },
  };
  const name = layerName(blob.digest);
  for (let isOwn = false; ;) {
    try {
      return await blobs.join(blob.digest, waiter, (shared) => {
        isOwn = true;
        return repository.blob({
          directory: context.layout.blobsDirectory,
          blob,
          signal: shared.signal,
          onProgress: (state, done) => shared.progress({ parts: [{ name, state, done }] }),
        });
      });
    } catch (error) {
      // Another pull's registry, or its manifest's idea of the size, says nothing about ours.
      if (isOwn || signal.aborted) throw error;
    }
  }
}
