import { existsSync } from 'node:fs';
import { mkdir, rename, rm } from 'node:fs/promises';
import { BangerError } from '../../errors.ts';
import { deleteImageName, deleteImageRow, getImage, vmsOfImage, type Image } from '../../state/images.ts';
import { imagePaths } from '../../state/layout.ts';
import type { ImageContext } from '../context.ts';
import { failpoint } from '../failpoints.ts';
import { getImageHere, nameMeant, shownImage } from './find-image.ts';
import { imageServices } from './image-services.ts';
import { discardPath } from './image-staging.ts';
import { lostUsersOf } from './lost-users.ts';
import { publishKey } from './publish-image.ts';
import { familiarName } from './reference.ts';
import { clearRowless, tryMarkRowless } from './rowless.ts';

export interface DeletedImage {
  /** Names that are gone, as people write them */
  readonly untagged: string[];
  /** Id of the image, null when it is still there under other names */
  readonly deleted: string | null;
}

/** Deletes an image, or only the name given when it has others. One that VMs use stays. */
export async function deleteImage(
  context: ImageContext,
  reference: string,
  signal: AbortSignal,
): Promise<DeletedImage> {
  return withDiscarded(context, signal, async (discarded) => {
    const { catalog } = context.config();
    const image = getImageHere(context.db, reference, catalog);
    const name = nameMeant(image, reference, catalog);
    if (name !== undefined && image.names.length > 1) {
      deleteImageName(context.db, name);
      return { untagged: [familiarName(name)], deleted: null };
    }
    await forgetImage(context, image, discarded);
    return { untagged: image.names.map(familiarName), deleted: image.id };
  });
}

/** Removes an image with all its names and files, unless a VM uses it. */
export async function removeImage(context: ImageContext, id: string, signal: AbortSignal): Promise<void> {
  await withDiscarded(context, signal, (discarded) =>
    forgetImage(context, getImage(context.db, id), discarded),
  );
}

/** Runs a deletion under the lock, which only moves files away; removing them may take longer than that. */
export async function withDiscarded<T>(
  context: ImageContext,
  signal: AbortSignal,
  task: (discarded: string) => Promise<T>,
): Promise<T> {
  const discarded = discardPath(context.layout);
  const result = await context.locks.publish.run(publishKey, signal, () => task(discarded));
  await failpoint('image moved away');
  await rm(discarded, { recursive: true, force: true });
  return result;
}

/** Forgets an image under the publish lock, and moves its files away, unless somebody uses it. */
export async function forgetImage(context: ImageContext, image: Image, discarded: string): Promise<void> {
  refuseIfUsed(context, image);
  const { directory } = imagePaths(context.layout, image.id);
  // The row goes first, because only the database knows of a VM that is just being created. A directory without
  // a row that is marked so is removed when the next engine starts.
  await tryMarkRowless(directory);
  try {
    deleteRow(context, image);
  } catch (error) {
    await clearRowless(directory);
    throw error;
  }
  await failpoint('image forgotten');
  await mkdir(context.layout.imageStagingDirectory, { recursive: true, mode: 0o700 });
  if (existsSync(directory)) await rename(directory, discarded);
}

function refuseIfUsed(context: ImageContext, image: Image): void {
  const vms = vmsOfImage(context.db, image.id);
  if (vms.length === 0) {
    refuseIfLostUser(context, image);
    return refuseIfHeld(context, image);
  }
  const list = vms.map((name) => `"${name}"`).join(', ');
  throw new BangerError('invalid_state', `Image "${shownImage(image)}" is used by VM ${list}`, {
    hint: `Delete what uses it first: banger vm delete ${vms.join(' ')}`,
  });
}

/** Without it, a VM that the database has lost could not be brought back. */
function refuseIfLostUser(context: ImageContext, image: Image): void {
  // A file of the user's stays where it is.
  const [directory] = image.external ? [] : lostUsersOf(context, image.id);
  if (directory === undefined) return;
  throw new BangerError(
    'invalid_state',
    `Image "${shownImage(image)}" may be used by a VM that the database does not know: "${directory}"`,
    { hint: 'See what can be done about it with: banger doctor' },
  );
}

/** A VM that is being made of it has no row yet. */
function refuseIfHeld(context: ImageContext, image: Image): void {
  if (!imageServices(context).leases.images.isTaken(image.id)) return;
  throw new BangerError('busy', `Image "${shownImage(image)}" is used by work in progress`, {
    hint: 'Wait until it is done, or see what it is with: banger engine status',
  });
}

function deleteRow(context: ImageContext, image: Image): void {
  try {
    deleteImageRow(context.db, image.id);
  } catch (error) {
    // Its foreign key found a VM that came in between.
    refuseIfUsed(context, getImage(context.db, image.id));
    throw error;
  }
}
