import { createHash, type Hash } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { abortError, BangerError, errnoOf } from '../../../errors.ts';
import type { Image } from '../../../state/images.ts';
import { imagePaths, type Layout } from '../../../state/layout.ts';
import type { ImageContext } from '../../context.ts';
import type { Operation } from '../../operations.ts';
import { BulkMeter } from '../../optimizer.ts';
import { guestPlatform } from '../registry/manifest.ts';
import { digestOf, hexOf } from '../registry/resolve-image.ts';
import { rootfsFile } from '../rootfs-file.ts';
import { layerTar } from './layer-tar.ts';
import { ociMediaTypes, type ExportedImage } from './oci-layout.ts';

/**
 * An image with one layer that is read from its filesystem. It is read twice, once for hash and size, which come
 * before the contents; nothing is written to disk for it.
 */
export async function flattenedImage(
  context: Pick<ImageContext, 'layout' | 'db'>,
  image: Image,
  operation: Operation,
): Promise<ExportedImage> {
  const rootfs = await rootfsFile(context, image);
  operation.enter('Reading filesystem');
  const hash = createHash('sha256');
  const meter = new BulkMeter();
  let sizeBytes = 0;
  for await (const chunk of layerTar(rootfs)) {
    if (operation.signal.aborted) throw abortError(operation.signal);
    hash.update(chunk);
    sizeBytes += chunk.length;
    meter.note(chunk.length);
    operation.progress({ done: sizeBytes, unit: 'bytes' });
  }
  const digest = digestText(hash);
  const config = await flattenedConfig(context.layout, image, digest);
  const manifest = {
    schemaVersion: 2,
    mediaType: ociMediaTypes.manifest,
    config: { mediaType: ociMediaTypes.config, digest: digestOf(config), size: config.length },
    layers: [{ mediaType: ociMediaTypes.tar, digest, size: sizeBytes }],
  };
  return {
    manifest: Buffer.from(JSON.stringify(manifest)),
    config,
    layers: [{ digest, sizeBytes, content: () => sameAsBefore(rootfs, digest) }],
    original: false,
  };
}

async function* sameAsBefore(rootfs: string, digest: string): AsyncGenerator<Buffer> {
  const hash = createHash('sha256');
  for await (const chunk of layerTar(rootfs)) {
    hash.update(chunk);
    yield chunk;
  }
  if (digestText(hash) === digest) return;
  throw new BangerError('invalid_state', `"${rootfs}" changed while it was being exported`, {
    hint: 'Export it again when nothing writes to it any more',
  });
}

/** The image's own config with the layers replaced; one made of what is known when it came without. */
async function flattenedConfig(layout: Layout, image: Image, diffId: string): Promise<Buffer> {
  const original = await originalConfig(layout, image);
  const { env, workingDirectory, user, entrypoint, command } = image.config;
  const config = {
    ...(original ?? {
      ...guestPlatform(process.arch),
      config: {
        Env: env,
        WorkingDir: workingDirectory,
        User: user,
        Entrypoint: entrypoint,
        Cmd: command,
      },
    }),
    created: image.createdAt,
    rootfs: { type: 'layers', diff_ids: [diffId] },
    history: [{ created: image.createdAt, created_by: 'banger image export' }],
  };
  return Buffer.from(JSON.stringify(config));
}

async function originalConfig(layout: Layout, image: Image): Promise<object | undefined> {
  try {
    const bytes = await readFile(imagePaths(layout, image.id).config);
    return hexOf(digestOf(bytes)) === image.id ? (JSON.parse(bytes.toString('utf8')) as object) : undefined;
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return undefined;
    throw error;
  }
}

function digestText(hash: Hash): string {
  return `sha256:${hash.digest('hex')}`;
}
