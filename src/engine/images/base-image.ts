import { createHash } from 'node:crypto';
import { errorText } from '../../errors.ts';
import { findImageByName, listImages, type Image } from '../../state/images.ts';
import type { Operation } from '../operations.ts';
import { buildImage, rootfsImageId } from './build-image.ts';
import { removeImage } from './delete-image.ts';
import { baseName } from './find-image.ts';
import { imageServices, type ImagesContext } from './image-services.ts';
import { withStaging } from './image-staging.ts';
import { isPresent, nameImage } from './publish-image.ts';

/**
 * Returns the image embedded in this binary, unpacked on first use.
 *
 * Its id comes from its content, so a binary with another one makes another image, and the name moves there.
 */
export async function ensureBaseImage(context: ImagesContext, operation: Operation): Promise<Image> {
  const services = imageServices(context);
  services.baseDigest ??= contentDigest(context);
  services.baseDigest.catch(() => (services.baseDigest = undefined));
  const diffId = await services.baseDigest;
  const id = rootfsImageId([diffId]);

  const current = findImageByName(context.db, baseName);
  if (current?.id === id && (await isPresent(context, id))) return current;
  return services.pulls.join(baseName, operation, async (shared) => {
    const image =
      (await nameImage(context, { id, name: baseName }, shared.signal)) ??
      (await unpack(context, { id, diffId }, shared));
    await removeOldBases(context, shared);
    return image;
  });
}

async function contentDigest({ assets }: ImagesContext): Promise<string> {
  const hash = createHash('sha256');
  for await (const chunk of assets.open('base.tar.zst') as AsyncIterable<Buffer>) hash.update(chunk);
  return `sha256:${hash.digest('hex')}`;
}

async function unpack(
  context: ImagesContext,
  { id, diffId }: { id: string; diffId: string },
  operation: Operation,
): Promise<Image> {
  operation.enter('Unpacking base image');
  return withStaging(context.layout, (stagingDirectory) =>
    buildImage(
      context,
      {
        layers: [{ open: () => context.assets.open('base.tar.zst'), diffId, label: 'base image' }],
        stagingDirectory,
        id,
        source: 'embedded',
        config: { env: [] },
        name: baseName,
      },
      operation,
    ),
  );
}

/** Those of earlier binaries, unless a VM still uses one. Tidying up must not fail what the user asked for. */
async function removeOldBases(context: ImagesContext, operation: Operation): Promise<void> {
  for (const image of listImages(context.db)) {
    if (image.source !== 'embedded' || image.names.length > 0) continue;
    try {
      await removeImage(context, image.id, operation.signal);
    } catch (error) {
      context.log('info', 'old base image kept', { image: image.id, reason: errorText(error) });
    }
  }
}
