import { BangerError } from '../../errors.ts';
import type { Image } from '../../state/images.ts';
import type { Operation } from '../operations.ts';
import { ensureImage } from './ensure-image.ts';
import { baseName, getImageByReference } from './find-image.ts';
import { imageServices, type ImagesContext } from './image-services.ts';
import { isPresent } from './publish-image.ts';

/** An image that nobody removes until this is disposed of. */
export interface HeldImage extends Disposable {
  readonly image: Image;
}

/** How often in a row somebody may remove the image in the moment between finding and holding it. */
const attempts = 5;

/** Like `ensureImage`, for those who need the image for longer than a moment. */
export async function holdImage(
  context: ImagesContext,
  reference: string,
  operation: Operation,
): Promise<HeldImage> {
  for (let attempt = 1; attempt <= attempts; attempt++) {
    const image = await ensureImage(context, reference, operation);
    const lease = imageServices(context).leases.images.take([image.id]);
    if (await isPresent(context, image.id)) return { image, [Symbol.dispose]: () => lease[Symbol.dispose]() };
    lease[Symbol.dispose]();
  }
  throw new BangerError('busy', `Image "${reference}" is removed again and again while it is being used`, {
    hint: 'See what else is going on with: banger engine status',
  });
}

/** Like `getImageByReference`, and the image stays until this is disposed of; so do its layers in the cache. */
export async function holdPresentImage(
  context: ImagesContext,
  reference: string,
  operation: Operation,
): Promise<HeldImage> {
  if (reference === baseName) return holdImage(context, baseName, operation);
  // Nobody comes between finding and holding: there is no wait.
  const image = getImageByReference(context.db, reference, context.config().catalog);
  const { images, blobs } = imageServices(context).leases;
  const leases = [images.take([image.id]), blobs.take(image.layers)];
  return {
    image,
    [Symbol.dispose]: () => {
      for (const lease of leases) lease[Symbol.dispose]();
    },
  };
}
