import { BangerError } from '../../errors.ts';
import type { Image } from '../../state/images.ts';
import type { Operation } from '../operations.ts';
import type { Origin } from './image-origins.ts';
import { imageServices, type ImagesContext } from './image-services.ts';
import { pullFrom } from './pull-image.ts';
import { familiarName, parseReference } from './reference.ts';

/** Brings back the files of a pulled image from where it came, as the very same image. Its names stay as they are. */
export async function pullAgain(
  context: ImagesContext,
  { image, origins }: { readonly image: Image; readonly origins: readonly Origin[] },
  operation: Operation,
): Promise<Image> {
  const { pulls } = imageServices(context);
  return pulls.join(`again ${image.id}`, operation, async (shared) => {
    let first: unknown;
    for (const origin of origins) {
      try {
        return await pullFrom(
          context,
          { reference: parseReference(origin.reference), restores: image.id },
          shared,
        );
      } catch (error) {
        // What one registry does not have, or not now, another one may.
        if (!(error instanceof BangerError) || error.code === 'cancelled') throw error;
        first ??= error.code === 'not_found' ? noLongerThere(origin, error) : error;
      }
    }
    throw first;
  });
}

function noLongerThere({ name, reference }: Origin, cause: BangerError): BangerError {
  const shown = familiarName(name);
  return new BangerError(
    'not_found',
    `The files of image "${shown}" are gone, and its registry does not have "${reference}", which it was pulled as`,
    {
      hint: `If its tag has moved on, take what it is now: banger image pull ${shown}`,
      cause,
    },
  );
}
