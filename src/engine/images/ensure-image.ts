import { BangerError } from '../../errors.ts';
import type { Image } from '../../state/images.ts';
import type { Operation } from '../operations.ts';
import { ensureBaseImage } from './base-image.ts';
import { baseName, closeName, findImage, namePulled } from './find-image.ts';
import { originsOf } from './image-origins.ts';
import type { ImagesContext } from './image-services.ts';
import { isPresent } from './publish-image.ts';
import { pullAgain } from './pull-again.ts';
import { pullImage } from './pull-image.ts';
import { rootfsFile } from './rootfs-file.ts';

/** Returns the image that a reference means: `base` from the binary, what is on this host, else pulled. */
export async function ensureImage(
  context: ImagesContext,
  reference: string,
  operation: Operation,
): Promise<Image> {
  if (reference === baseName) return ensureBaseImage(context, operation);
  const { catalog } = context.config();
  const image = findImage(context.db, reference, catalog);
  if (!image) return pullNew(context, reference, operation);
  if (!image.external && (await isPresent(context, image.id))) return image;

  // Somebody removed its files behind our back. What came from a registry can come again.
  const origins = originsOf(image, namePulled(image, reference, catalog));
  if (!image.external && origins.length > 0) return pullAgain(context, { image, origins }, operation);
  // Else it says what has become of it, and how it comes back.
  await rootfsFile(context, image);
  return image;
}

/** Nobody asked for a pull: a name that was mistyped is looked for in a registry, too. */
async function pullNew(context: ImagesContext, reference: string, operation: Operation): Promise<Image> {
  try {
    return await pullImage(context, reference, operation);
  } catch (error) {
    const close = closeName(context.db, reference);
    if (!(error instanceof BangerError) || error.code === 'cancelled' || close === undefined) throw error;
    const rest = error.hint === undefined ? '' : ` ${error.hint}`;
    throw new BangerError(error.code, error.message, {
      hint: `"${reference}" is not on this host, "${close}" is: did you mean that?${rest}`,
      cause: error,
    });
  }
}
