import { BangerError } from '../../errors.ts';
import type { Image } from '../../state/images.ts';
import type { Operation } from '../operations.ts';
import { ensureBaseImage } from './base-image.ts';
import { baseName, findImage, shownImage } from './find-image.ts';
import type { ImagesContext } from './image-services.ts';
import { isPresent } from './publish-image.ts';
import { pullImage } from './pull-image.ts';

/** Returns the image that a reference means: `base` from the binary, what is on this host, else pulled. */
export async function ensureImage(
  context: ImagesContext,
  reference: string,
  operation: Operation,
): Promise<Image> {
  if (reference === baseName) return ensureBaseImage(context, operation);
  const image = findImage(context.db, reference, context.config().catalog);
  if (!image) return pullImage(context, reference, operation);
  if (await isPresent(context, image.id)) return image;

  // Somebody removed its files behind our back. What came from a registry can come again.
  const [name] = image.names;
  if (image.source === 'pull' && name !== undefined) return pullImage(context, name, operation);
  throw new BangerError('invalid_state', `The files of image "${shownImage(image)}" are gone or changed`, {
    hint: `Import it again, or forget it with: banger image delete ${shownImage(image)}`,
  });
}
