import { existsSync } from 'node:fs';
import { join } from 'node:path';
import type { Database } from '../../state/database.ts';
import { vmsOfImage, type Image } from '../../state/images.ts';
import type { ImageDetails, ImageView } from '../rpc/image-methods.ts';
import type { ImageContext } from '../context.ts';
import { digestPulled } from './find-image.ts';
import { layerSizes } from './layer-sizes.ts';
import { familiarName } from './reference.ts';
import { hexOf } from './registry/resolve-image.ts';

/** An image as clients see it. */
export function toImageView(db: Database, image: Image): ImageView {
  return {
    id: image.id,
    names: image.names.map(familiarName),
    source: image.source,
    digest: digestPulled(image, undefined),
    digests: Object.fromEntries(
      Object.entries(image.digests).map(([name, digest]) => [familiarName(name), digest]),
    ),
    sizeBytes: image.sizeBytes,
    contentBytes: image.contentBytes,
    os: image.osRelease['PRETTY_NAME'] ?? '',
    hasShell: image.hasShell,
    createdAt: image.createdAt,
    usedBy: vmsOfImage(db, image.id),
  };
}

/** `name` is the stored one by which it was asked for, if it was one. */
export async function toImageDetails(
  { db, layout }: Pick<ImageContext, 'db' | 'layout'>,
  image: Image,
  name?: string,
): Promise<ImageDetails> {
  const sizes = await layerSizes(layout, image);
  const { env, workingDirectory, user, entrypoint, command } = image.config;
  return {
    ...toImageView(db, image),
    digest: digestPulled(image, name),
    layers: image.layers.map((digest) => ({
      digest,
      sizeBytes: sizes.get(digest),
      isCached: existsSync(join(layout.blobsDirectory, hexOf(digest))),
    })),
    path: image.external?.path,
    osRelease: { ...image.osRelease },
    config: {
      env: [...env],
      workingDirectory,
      user,
      entrypoint: entrypoint && [...entrypoint],
      command: command && [...command],
    },
  };
}
