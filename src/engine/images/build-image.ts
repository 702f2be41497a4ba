import { createHash } from 'node:crypto';
import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import type { Image, ImageConfig } from '../../state/images.ts';
import type { Operation } from '../operations.ts';
import type { ConversionTurns } from './conversion/conversion-turns.ts';
import { writeDocuments } from './image-documents.ts';
import { imageServices, type ImagesContext } from './image-services.ts';
import type { ConvertResult, LayerSource } from './layers/layers.ts';
import { publishImage, stagedRootfs, type NewImage } from './publish-image.ts';
import type { ImageDocuments } from './registry/resolve-image.ts';

export interface ImageParts {
  readonly layers: readonly LayerSource[];
  /** Private directory to work in, removed by the caller */
  readonly stagingDirectory: string;
  /** Absent: from the content of the layers */
  readonly id?: string;
  readonly source: Image['source'];
  readonly digest?: string;
  readonly config: ImageConfig;
  /** Kept beside the filesystem, for export */
  readonly documents?: ImageDocuments;
  /** Digests to record for the layers; absent: those of their content */
  readonly layerDigests?: readonly string[];
  /** Stored name; absent when the image is known, and only its files were lost */
  readonly name: string | undefined;
  /** Told how far the conversion is, in place of the operation: layer by index, uncompressed bytes of all so far */
  readonly onProgress?: (done: { readonly layer: number; readonly bytes: number }) => void;
  /** Settles when all layers are here, for those that are still on their way */
  readonly arrived?: Promise<unknown>;
  /** Called when the layers have been read, before the image is published */
  readonly onConverted?: () => Promise<void>;
}

/** Size of an image's filesystem. It is sparse, and grows with the disk of the VM made from it. */
const filesystemBytes = 8 * 1024 ** 3;

/** UUID and hash seed of an image whose id is known only once it is written. */
const rootfsSeed = 'rootfs';

/** Converts layers to a filesystem in the staging directory and publishes it under a name. */
export async function buildImage(
  context: ImagesContext,
  parts: ImageParts,
  operation: Operation,
): Promise<Image> {
  // The image's own directory; the converter's scratch files stay outside.
  const stagingDirectory = join(parts.stagingDirectory, 'image');
  await mkdir(stagingDirectory, { recursive: true, mode: 0o700 });
  const converted = await convert(context, { parts, stagingDirectory }, operation);
  await parts.onConverted?.();
  await writeDocuments(stagingDirectory, parts.documents);

  operation.enter('Publishing image');
  const image: NewImage = {
    id: parts.id ?? rootfsImageId(converted.diffIds),
    source: parts.source,
    digest: parts.digest,
    sizeBytes: converted.sizeBytes,
    contentBytes: converted.contentBytes,
    config: parts.config,
    layers: parts.layerDigests ?? converted.diffIds,
    osRelease: converted.osRelease,
    hasShell: converted.hasShell,
  };
  const { name } = parts;
  const led = name === undefined ? ({ restores: true } as const) : { name };
  return publishImage(context, { stagingDirectory, image, ...led }, operation.signal);
}

/** Converts when it is this image's turn: what is kept of an image's files is bounded for one. */
async function convert(
  context: ImagesContext,
  { parts, stagingDirectory }: { readonly parts: ImageParts; readonly stagingDirectory: string },
  operation: Operation,
): Promise<ConvertResult> {
  const { tools, conversions } = imageServices(context);
  // The one in the binary is small, and whoever has no other is not kept waiting.
  const turn = parts.source === 'embedded' ? undefined : await turnOf(conversions, parts, operation);
  try {
    return await tools.convert({
      layers: parts.layers,
      destination: stagedRootfs(stagingDirectory),
      workDirectory: parts.stagingDirectory,
      sizeBytes: filesystemBytes,
      seed: parts.id ?? rootfsSeed,
      signal: operation.signal,
      onProgress: ({ layer, bytes }) => {
        if (parts.onProgress) return parts.onProgress({ layer, bytes });
        const detail = `layer ${layer + 1} of ${parts.layers.length}`;
        operation.progress({ detail, done: bytes, unit: 'bytes' });
      },
    });
  } finally {
    turn?.[Symbol.dispose]();
  }
}

/** While layers are on their way, that is what is shown. */
async function turnOf(
  conversions: ConversionTurns,
  { arrived }: ImageParts,
  operation: Operation,
): Promise<Disposable> {
  let hasArrived = arrived === undefined;
  let isWaiting = false;
  const tell = (): void => {
    if (isWaiting && hasArrived) operation.enter('Waiting for other conversions');
  };
  const arrive = (): void => {
    hasArrived = true;
    tell();
  };
  void arrived?.then(arrive, () => undefined);
  const onWait = (): void => {
    isWaiting = true;
    tell();
  };
  const turn = await conversions.take({ signal: operation.signal, arrived, onWait });
  if (isWaiting && hasArrived) operation.enter('Converting layers');
  isWaiting = false;
  return turn;
}

/** The id of an image that has no config of its own: a hash over the digests of its layers' content. */
export function rootfsImageId(diffIds: readonly string[]): string {
  return createHash('sha256').update(diffIds.join('\n')).digest('hex');
}
