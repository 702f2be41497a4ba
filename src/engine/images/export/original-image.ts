import { createHash } from 'node:crypto';
import { stat } from 'node:fs/promises';
import { createReadStream } from 'node:fs';
import { join } from 'node:path';
import { BangerError, errnoOf } from '../../../errors.ts';
import type { Image } from '../../../state/images.ts';
import { imagePaths, type ImagePaths, type Layout } from '../../../state/layout.ts';
import { digestPulled } from '../find-image.ts';
import { readIfPresent } from '../image-documents.ts';
import { parseManifest, type Descriptor } from '../registry/manifest.ts';
import { digestOf, hexOf } from '../registry/resolve-image.ts';
import { ociMediaTypes, type ExportedImage, type ExportedLayer } from './oci-layout.ts';

const bytesPerRead = 1024 * 1024;

/**
 * A pulled image as it came: the same documents and, byte for byte, the same layers. Undefined when they are not all
 * here any more. Under a name that was pulled with another manifest, it is as that one says.
 *
 * With `isOci` a manifest in docker's own types is written anew with those of OCI, which some readers insist on;
 * config and layers stay as they are.
 */
export async function originalImage(
  layout: Layout,
  image: Image,
  { isOci, name }: { readonly isOci: boolean; readonly name?: string | undefined },
): Promise<ExportedImage | undefined> {
  const paths = imagePaths(layout, image.id);
  const manifest = await manifestOf(paths, image, digestPulled(image, name));
  const config = await readIfPresent(paths.config);
  if (!manifest || !config || digestOf(config) !== `sha256:${image.id}`) return undefined;
  const parsed = parseManifest(manifest, image.id);
  if (parsed.kind === 'index') return undefined;

  const layers: ExportedLayer[] = [];
  for (const layer of parsed.layers) {
    const path = join(layout.blobsDirectory, hexOf(layer.digest));
    if ((await sizeOf(path)) !== layer.size) return undefined;
    layers.push({ digest: layer.digest, sizeBytes: layer.size, content: () => checkedBlob(path, layer) });
  }
  return { manifest: isOci ? asOci(manifest) : manifest, config, layers, original: true };
}

/** The manifest that an image was pulled with by a digest: that of another one would be of another image for a registry. */
async function manifestOf(
  paths: ImagePaths,
  image: Image,
  digest: string | undefined,
): Promise<Buffer | undefined> {
  const own = digest === undefined ? undefined : await readIfPresent(paths.manifestOf(digest));
  if (own) return own;
  const first = await readIfPresent(paths.manifest);
  // The digest may be that of an index, of which no manifest says anything.
  return first && (digest === image.digest || digestOf(first) === digest) ? first : undefined;
}

/** The cache is only a cache: what does not have its hash any more must not leave as if it had. */
async function* checkedBlob(path: string, { digest }: Descriptor): AsyncGenerator<Buffer> {
  const hash = createHash('sha256');
  for await (const chunk of createReadStream(path, {
    highWaterMark: bytesPerRead,
  }) as AsyncIterable<Buffer>) {
    hash.update(chunk);
    yield chunk;
  }
  if (`sha256:${hash.digest('hex')}` === digest) return;
  throw new BangerError('invalid_state', `The cached layer "${path}" is damaged`, {
    hint: `Remove it, then export again; the image then has one layer, made from its filesystem: rm ${path}`,
  });
}

function asOci(bytes: Buffer): Buffer {
  const manifest = JSON.parse(bytes.toString('utf8')) as {
    mediaType?: string;
    config: Descriptor;
    layers: Descriptor[];
  };
  if (manifest.mediaType === undefined || manifest.mediaType === ociMediaTypes.manifest) return bytes;
  const converted = {
    schemaVersion: 2,
    mediaType: ociMediaTypes.manifest,
    config: { mediaType: ociMediaTypes.config, digest: manifest.config.digest, size: manifest.config.size },
    layers: manifest.layers.map(({ mediaType, digest, size }) => ({
      mediaType: ociLayerType(mediaType),
      digest,
      size,
    })),
  };
  return Buffer.from(JSON.stringify(converted));
}

function ociLayerType(mediaType: string): string {
  const compression = /\.(gzip|zstd)$/.exec(mediaType)?.[1];
  if (!mediaType.startsWith('application/vnd.docker.')) return mediaType;
  return compression ? `${ociMediaTypes.tar}+${compression}` : ociMediaTypes.tar;
}

async function sizeOf(path: string): Promise<number | undefined> {
  try {
    return (await stat(path)).size;
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return undefined;
    throw error;
  }
}
