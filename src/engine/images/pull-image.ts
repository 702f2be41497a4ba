import { statSync } from 'node:fs';
import { mkdir, statfs } from 'node:fs/promises';
import { abortError, BangerError, errorText } from '../../errors.ts';
import type { Image } from '../../state/images.ts';
import { formatBytes } from '../../state/units.ts';
import type { Operation } from '../operations.ts';
import { buildImage } from './build-image.ts';
import { expandShortName } from './catalog.ts';
import type { Repository } from './downloads/downloads.ts';
import { imageServices, type ImagesContext } from './image-services.ts';
import { withStaging } from './image-staging.ts';
import { partialBlobPath, trimPartials } from './registry/blob-files.ts';
import { LayerDownloads } from './registry/layer-downloads.ts';
import { LayerProgress } from './registry/layer-progress.ts';
import { guestPlatform, refused, type Descriptor } from './registry/manifest.ts';
import { nameImage } from './publish-image.ts';
import { canonicalName, familiarName, parseReference, type Reference } from './reference.ts';
import { resolveImage, type ResolvedImage } from './registry/resolve-image.ts';

/**
 * Fetches an image from its registry and makes it bootable, or finds that what the registry has is here already.
 *
 * Pulls of the same reference at the same time are one pull; see `SharedWork`.
 */
export async function pullImage(
  context: ImagesContext,
  reference: string,
  operation: Operation,
): Promise<Image> {
  const parsed = parseReference(expandShortName(reference, context.config().catalog) ?? reference);
  let layers: readonly Descriptor[] = [];
  const onResolved = (resolved: ResolvedImage): void => void (layers = resolved.layers);
  const { pulls } = imageServices(context);
  try {
    return await pulls.join(canonicalName(parsed), operation, (shared) =>
      pullFrom(context, { reference: parsed, onResolved }, shared),
    );
  } catch (error) {
    throw sayingWhatStays(error, { directory: context.layout.blobsDirectory, layers });
  }
}

/** Whoever has waited for gigabytes wants to know that they are not lost, or how to be rid of them. */
function sayingWhatStays(
  error: unknown,
  { directory, layers }: { readonly directory: string; readonly layers: readonly Descriptor[] },
): unknown {
  if (!(error instanceof BangerError) || error.code !== 'cancelled' || error.hint !== undefined) return error;
  const hasArrived = ({ digest }: Descriptor): boolean =>
    (statSync(partialBlobPath(directory, digest), { throwIfNoEntry: false })?.size ?? 0) > 0;
  if (!layers.some(hasArrived)) return error;
  return new BangerError(error.code, error.message, {
    hint: 'What has arrived is kept for the next pull. Remove it with: banger image prune',
    cause: error,
  });
}

export interface PullRequest {
  readonly reference: Reference;
  /** Id of a known image that has to come of it; its names stay as they are */
  readonly restores?: string;
  /** Told what is to be downloaded */
  readonly onResolved?: (resolved: ResolvedImage) => void;
}

/** Does what `pullImage` does, whatever else is being pulled. */
export async function pullFrom(
  context: ImagesContext,
  request: PullRequest,
  operation: Operation,
): Promise<Image> {
  const { reference, restores } = request;
  const { tools, leases } = imageServices(context);
  const source = canonicalName(reference);
  const name = restores === undefined ? source : undefined;
  using repository = tools.downloads.repository(reference);

  operation.enter('Resolving image');
  operation.progress({ detail: familiarName(source) });
  const { signal } = operation;
  const top = await repository.manifest(reference.digest ?? reference.tag ?? 'latest', signal);
  const resolved = await resolveImage({
    top: top.bytes,
    fetch: async (kind, { digest }) =>
      kind === 'manifest'
        ? (await repository.manifest(digest, signal)).bytes
        : repository.smallBlob(digest, signal),
    platform: guestPlatform(process.arch),
    image: familiarName(source),
  });
  if (restores !== undefined && resolved.id !== restores) throw otherImage(source, restores, resolved.id);
  request.onResolved?.(resolved);
  const pulled = {
    digest: top.digest,
    layers: resolved.layers.map((layer) => layer.digest),
    documents: resolved.documents,
  };
  const present = await nameImage(context, { id: resolved.id, name, pulled }, signal);
  if (present) return present;

  const lease = leases.blobs.take(resolved.layers.map((layer) => layer.digest));
  try {
    return await withStaging(context.layout, (stagingDirectory) =>
      downloadAndBuild(
        context,
        { resolved, repository, source, name, digest: top.digest, stagingDirectory },
        operation,
      ),
    );
  } finally {
    lease[Symbol.dispose]();
    await trimPartials(context.layout.blobsDirectory, {
      isTaken: (digest) => leases.blobs.isTaken(digest),
    }).catch((error: unknown) =>
      context.log('warn', 'unfinished downloads not tidied', { error: errorText(error) }),
    );
  }
}

function otherImage(source: string, wanted: string, id: string): BangerError {
  const [shown, was, is] = [familiarName(source), wanted.slice(0, 12), id.slice(0, 12)];
  return new BangerError('invalid_state', `"${shown}" is image ${is} now, and no longer ${was}`, {
    hint: `Take what it is now: banger image pull ${shown}`,
  });
}

interface Pull {
  readonly resolved: ResolvedImage;
  readonly repository: Repository;
  /** Name it has at its registry, in full */
  readonly source: string;
  /** Stored name it gets; absent when it is there to bring back files */
  readonly name: string | undefined;
  readonly digest: string;
  readonly stagingDirectory: string;
}

/** Layers are converted in order while they and those above are still on their way. */
async function downloadAndBuild(context: ImagesContext, pull: Pull, operation: Operation): Promise<Image> {
  const { resolved, source, name, digest, stagingDirectory } = pull;
  await checkSpace(context.layout.blobsDirectory, resolved.layers);
  // Whichever of download and conversion fails first ends the other.
  const abort = new AbortController();
  const signal = AbortSignal.any([operation.signal, abort.signal]);
  let failure: { readonly error: unknown } | undefined;
  const fail = (error: unknown): void => {
    failure ??= { error };
    abort.abort(error);
  };

  const inner: Operation = {
    id: operation.id,
    kind: operation.kind,
    signal,
    enter: (stage) => operation.enter(stage),
    progress: (progress) => operation.progress(progress),
  };
  operation.enter('Downloading layers');
  const progress = new LayerProgress(resolved.layers, (told) => operation.progress(told));
  const downloads = new LayerDownloads(context, { resolved, repository: pull.repository, progress }, inner);
  const allDownloaded = downloads.all.then(() => {
    operation.enter('Converting layers');
    progress.tell();
  });
  allDownloaded.catch(fail);
  const build = (): Promise<Image> =>
    buildImage(
      context,
      {
        layers: resolved.layers.map((layer, index) => downloads.source(layer, resolved.diffIds[index]!)),
        stagingDirectory,
        id: resolved.id,
        source: 'pull',
        digest,
        config: resolved.config,
        documents: resolved.documents,
        layerDigests: resolved.layers.map((layer) => layer.digest),
        name,
        onProgress: conversionProgress(resolved.layers, downloads, progress),
        arrived: allDownloaded,
        onConverted: async () => {
          await allDownloaded;
          if (downloads.wereReadInVain) throw new Error('a layer was read that arrived again');
        },
      },
      inner,
    );
  try {
    return await build().catch(async (error: unknown) => {
      // Bytes that are not the layer's make no sense: the hash says so, and the converter can only say something odd.
      await downloads.readWhole();
      if (!downloads.wereReadInVain) throw error;
      return build();
    });
  } catch (error) {
    fail(error);
    if (operation.signal.aborted) throw abortError(operation.signal);
    throw blamed(failure?.error, familiarName(source));
  } finally {
    // A download must not outlive the pull, unless another pull waits for it too.
    await downloads.settled();
  }
}

/** What the converter finds wrong is the image's fault: it knows layer and entry, but not what the user asked for. */
function blamed(error: unknown, image: string): unknown {
  const isOfLayer = error instanceof BangerError && error.code === 'invalid_argument' && !error.hint;
  if (!isOfLayer) return error;
  return refused(
    image,
    error.message.replace(/^[A-Z]/, (letter) => letter.toLowerCase()),
  );
}

/** Layers are converted one after the other, so whatever comes before the current one is done. */
function conversionProgress(
  layers: readonly Descriptor[],
  downloads: LayerDownloads,
  progress: LayerProgress,
): (done: { readonly layer: number; readonly bytes: number }) => void {
  let current = -1;
  let bytesBefore = 0;
  let latest = 0;
  return ({ layer, bytes }) => {
    if (layer !== current) {
      for (const { digest } of layers.slice(0, layer)) progress.set(digest, 'done');
      current = layer;
      bytesBefore = latest;
    }
    latest = bytes;
    // Until then the download is what takes long.
    if (downloads.isHere(layers[layer]!))
      progress.set(layers[layer]!.digest, 'converting', bytes - bytesBefore);
  };
}

/** Says so before the download, not after it. What is in the cache already is counted too: better too strict by that. */
async function checkSpace(directory: string, layers: readonly Descriptor[]): Promise<void> {
  await mkdir(directory, { recursive: true, mode: 0o700 });
  const { bavail, bsize } = await statfs(directory);
  const wanted = layers.reduce((sum, layer) => sum + layer.size, 0);
  const free = bavail * bsize;
  if (wanted <= free) return;
  throw new BangerError(
    'host_unsupported',
    `There is no room for the layers of the image: they take ${formatBytes(wanted)}, and ${formatBytes(free)} are free at "${directory}"`,
    { hint: 'Free space there, for example with: banger image prune --all' },
  );
}
