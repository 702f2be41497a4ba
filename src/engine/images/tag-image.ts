import { BangerError } from '../../errors.ts';
import { getImage, renameImageName, setImageName, type Image } from '../../state/images.ts';
import type { ImageContext } from '../context.ts';
import { baseName, getImageByReference, getImageHere, nameMeant, namePulled } from './find-image.ts';
import { newName } from './new-name.ts';
import { publishKey } from './publish-image.ts';
import { repositoryOf } from './reference.ts';

export interface NewNameRequest {
  readonly reference: string;
  readonly name: string;
}

/** Gives an image one more name. What had the name before loses it, as with docker. */
export async function tagImage(
  context: ImageContext,
  { reference, name }: NewNameRequest,
  signal: AbortSignal,
): Promise<Image> {
  const stored = newName(name);
  return context.locks.publish.run(publishKey, signal, async () => {
    const { catalog } = context.config();
    const image = getImageByReference(context.db, reference, catalog);
    const meant = namePulled(image, reference, catalog);
    setImageName(context.db, stored, image.id, digestIn(image, { name: stored, meant }));
    return getImage(context.db, image.id);
  });
}

/** Replaces one name of an image by another; its other names stay. */
export async function renameImage(
  context: ImageContext,
  { reference, name }: NewNameRequest,
  signal: AbortSignal,
): Promise<Image> {
  const stored = newName(name);
  return context.locks.publish.run(publishKey, signal, async () => {
    const { catalog } = context.config();
    const image = getImageHere(context.db, reference, catalog);
    const old = nameMeant(image, reference, catalog);
    if (old === baseName) {
      throw new BangerError('invalid_argument', `"${baseName}" always names the image inside banger`, {
        hint: `Give it another name besides: banger image tag ${baseName} ${name}`,
      });
    }
    if (old === undefined) {
      throw new BangerError('invalid_argument', `"${reference}" is not a name of that image`, {
        hint: `Give it a name with: banger image tag ${reference} ${name}`,
      });
    }
    renameImageName(context.db, old, stored, digestIn(image, { name: stored, meant: old }));
    return getImage(context.db, image.id);
  });
}

/**
 * What the image was pulled with from the repository of a new name, by the name that was meant if that is there: a tag
 * more in a repository is the same in that registry.
 */
function digestIn(
  image: Image,
  { name, meant }: { readonly name: string; readonly meant: string | undefined },
): string | undefined {
  const there = Object.keys(image.digests).filter((each) => repositoryOf(each) === repositoryOf(name));
  const pulled = there.find((each) => each === meant) ?? there[0];
  return pulled === undefined ? undefined : image.digests[pulled];
}
