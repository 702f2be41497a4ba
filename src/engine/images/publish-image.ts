import { existsSync } from 'node:fs';
import { chmod, mkdir, rename, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { BangerError } from '../../errors.ts';
import { syncDirectory, syncFile } from '../../host/files.ts';
import type { Database } from '../../state/database.ts';
import {
  deleteImageRow,
  findImageById,
  findImageByName,
  getImage,
  insertImage,
  listImages,
  moveImageNames,
  setImageName,
  setImagePulled,
  setImageRootfs,
  vmsOfImage,
  type Image,
  type RootfsMark,
} from '../../state/images.ts';
import { imagePaths, type Layout } from '../../state/layout.ts';
import type { ImageContext } from '../context.ts';
import { failpoint } from '../failpoints.ts';
import { shownImage } from './find-image.ts';
import { keepDocuments, readDocuments, takeDocumentsAlong } from './image-documents.ts';
import { imageServices } from './image-services.ts';
import { discardPath } from './image-staging.ts';
import { lostUsersOf } from './lost-users.ts';
import { familiarName } from './reference.ts';
import type { ImageDocuments } from './registry/resolve-image.ts';
import { vmsStandingOn } from './rootfs-file.ts';
import { markRootfs, rootfsFate } from './rootfs-mark.ts';
import { clearRowless, markRowless, settleRowless } from './rowless.ts';

export type NewImage = Omit<Image, 'names' | 'digests' | 'createdAt' | 'rootfs'>;

/** What a name is to lead to, all names of another image are, or those of the image itself lead to already. */
export type Publication = {
  /** Holds `rootfs.ext4`, and the image's documents if it has any; renamed when the image is new, else left to be removed */
  readonly stagingDirectory: string;
  readonly image: NewImage;
} & (NamePublication | Replacement | Restoration);

interface NamePublication {
  /** Stored name; it moves here when it led elsewhere */
  readonly name: string;
  /** Refuses to take the name from another image: nobody asked for it, the image brought it along */
  readonly isNameOffered?: boolean;
}

interface Replacement {
  /** Image whose names all move here; it is forgotten when no VM uses it */
  readonly replaces: string;
}

interface Restoration {
  /** Its row is known and its files were lost */
  readonly restores: true;
}

/** All publishing and deleting is one after the other: it takes milliseconds. */
export const publishKey = 'images';

/** Name of the filesystem in a staging directory, as in the final one. */
export function stagedRootfs(stagingDirectory: string): string {
  return join(stagingDirectory, 'rootfs.ext4');
}

/**
 * Makes a finished image known: directory renamed into place, then row and name in one transaction.
 *
 * Of several that bring the same image, the first one's files stay; the others only get their name.
 */
export async function publishImage(
  context: ImageContext,
  publication: Publication,
  signal: AbortSignal,
): Promise<Image> {
  const { stagingDirectory, image } = publication;
  const rootfs = stagedRootfs(stagingDirectory);
  await chmod(stagingDirectory, 0o700);
  await chmod(rootfs, 0o600);
  // Outside the lock: flushing gigabytes takes seconds.
  const [mark] = await Promise.all([markRootfs(rootfs), syncFile(rootfs)]);
  await markRowless(stagingDirectory);
  await syncDirectory(stagingDirectory);
  await failpoint('image synced');

  const discarded = discardPath(context.layout);
  const publish = async (): Promise<Image> => {
    const { layout, db } = context;
    if (!(await isPresent(context, image.id))) {
      checkReplacement(context, image, mark);
      const { directory } = imagePaths(layout, image.id);
      await checkLostUsers(context, image.id, mark);
      await mkdir(layout.imagesDirectory, { recursive: true, mode: 0o700 });
      // Without its row or without its filesystem, what lies there is of no use to anybody.
      if (existsSync(directory)) {
        const known = findImageById(db, image.id);
        if (known) await takeDocumentsAlong(known, { directory, stagingDirectory, digest: image.digest });
        await rename(directory, discarded);
      }
      await failpoint('place free');
      await rename(stagingDirectory, directory);
      await syncDirectory(layout.imagesDirectory);
      try {
        await failpoint('image in place');
        const recorded = record(context, publication, mark);
        await clearRowless(directory);
        return recorded;
      } catch (error) {
        if (!findImageById(db, image.id)) await rm(directory, { recursive: true, force: true });
        throw error;
      }
    }
    // Somebody else has brought it meanwhile, maybe by another name.
    const documents = await readDocuments(stagingDirectory);
    if (image.digest !== undefined) await keepPulled(context, image.id, { digest: image.digest, documents });
    db.transaction(() => giveNames(context, publication))();
    return getImage(db, image.id);
  };
  try {
    return await context.locks.publish.run(publishKey, signal, publish);
  } finally {
    // What was in the place may be gigabytes, which nobody has to wait for under the lock.
    await rm(discarded, { recursive: true, force: true });
  }
}

/** What a name was pulled with. */
export interface PulledWith {
  /** Of what the registry has under the name: a manifest, or an index of several */
  readonly digest: string;
  readonly layers: readonly string[];
  readonly documents: ImageDocuments;
}

/** Points a name, if there is one, at an image that is present already, or returns undefined when it is not (any more). */
export async function nameImage(
  context: ImageContext,
  { id, name, pulled }: { id: string; name: string | undefined; pulled?: PulledWith },
  signal: AbortSignal,
): Promise<Image | undefined> {
  return context.locks.publish.run(publishKey, signal, async () => {
    if (!(await isPresent(context, id))) return undefined;
    const { db } = context;
    if (pulled) await keepPulled(context, id, pulled);
    db.transaction(() => {
      if (pulled) setImagePulled(db, id, pulled);
      if (name !== undefined) setImageName(db, name, id, pulled?.digest);
    })();
    return getImage(db, id);
  });
}

async function keepPulled(
  { layout, db }: ImageContext,
  id: string,
  pulled: Pick<PulledWith, 'digest' | 'documents'>,
): Promise<void> {
  await keepDocuments(imagePaths(layout, id), { ...pulled, first: getImage(db, id).digest });
}

/**
 * True when an image has both its row and its filesystem. One that was cut off or written to counts as gone. A file of
 * the user's is checked where it is used.
 */
export async function isPresent(context: Pick<ImageContext, 'layout' | 'db'>, id: string): Promise<boolean> {
  const image = findImageById(context.db, id);
  if (!image) return false;
  if (image.external) return existsSync(image.external.path);
  return (await rootfsFate(context, image)) === 'same';
}

/** Removes images that were under construction when an engine died. Only for the start of an engine. */
export async function cleanStaging(layout: Layout): Promise<void> {
  await rm(layout.imageStagingDirectory, { recursive: true, force: true });
}

/**
 * Removes directories of images that no row owns: an engine died between renaming and recording, or between
 * forgetting and removing. Returns those that the database has lost. Only for the start of an engine, before anything
 * is published.
 */
export async function removeUnownedImages(layout: Layout, db: Database): Promise<string[]> {
  const owned = new Set(listImages(db).map((image) => image.id));
  return settleRowless(layout.imagesDirectory, owned, 'rootfs.ext4');
}

/**
 * Disks of VMs may know their image block by block: when its filesystem was lost, only the very same may take its place.
 * Another version of banger may lay the same files out in another way.
 */
function checkReplacement(context: ImageContext, { id }: NewImage, mark: RootfsMark): void {
  const lost = findImageById(context.db, id);
  const vms = vmsStandingOn(context, id);
  if (!lost?.rootfs || lost.rootfs.sample === mark.sample || vms.length === 0) return;
  throw new BangerError(
    'invalid_state',
    `The filesystem of image "${shownImage(lost)}" was changed or lost, and what it is now made of differs from what VM ${vms.map((vm) => `"${vm}"`).join(', ')} was made from`,
    { hint: `Their disks are of no use without it. Delete them first: banger vm delete ${vms.join(' ')}` },
  );
}

/** The same for disks of VMs that the database has lost, with the image or not, and that may be found again. */
async function checkLostUsers({ layout, db }: ImageContext, id: string, mark: RootfsMark): Promise<void> {
  const { directory, rootfs } = imagePaths(layout, id);
  const [user] = existsSync(rootfs) ? lostUsersOf({ layout, db }, id) : [];
  if (user === undefined || (await markRootfs(rootfs)).sample === mark.sample) return;
  throw new BangerError(
    'invalid_state',
    `The disk at "${user}" may build on what is at "${directory}", which the database has lost, and which differs from what this image is now made of`,
    { hint: `See what is lost with: banger doctor. If nobody needs that disk any more: rm -r ${user}` },
  );
}

function record(context: ImageContext, publication: Publication, rootfs: RootfsMark): Image {
  const { db } = context;
  const { image } = publication;
  db.transaction(() => {
    insertImage(db, { ...image, createdAt: new Date().toISOString() });
    setImageRootfs(db, image.id, { sizeBytes: image.sizeBytes, rootfs });
    giveNames(context, publication);
  })();
  return getImage(db, image.id);
}

function giveNames(context: ImageContext, publication: Publication): void {
  const { db } = context;
  const { image } = publication;
  const { digest, layers } = image;
  if (image.source === 'pull' && digest !== undefined) setImagePulled(db, image.id, { digest, layers });
  if ('restores' in publication) return;
  if ('replaces' in publication) return replace(context, publication.replaces, image.id);
  if (publication.isNameOffered) refuseTakenName(db, publication.name, image.id);
  setImageName(db, publication.name, image.id, image.digest);
}

/** Names that somebody has moved or deleted since stay where they are. */
function replace(context: ImageContext, from: string, to: string): void {
  const { db } = context;
  if ((findImageById(db, from)?.names.length ?? 0) === 0) {
    throw new BangerError('busy', 'The image was deleted, or lost its name, while it was being copied', {
      hint: 'See what is there with: banger image list',
    });
  }
  moveImageNames(db, from, to);
  // One that somebody is about to make a VM of stays without a name, as one with VMs does.
  const isUsed = vmsOfImage(db, from).length > 0 || imageServices(context).leases.images.isTaken(from);
  if (!isUsed) deleteImageRow(db, from);
}

/** Throws when a name that an image brings along leads to another image. */
export function refuseTakenName(db: Database, name: string, id?: string): void {
  const owner = findImageByName(db, name);
  if (!owner || owner.id === id) return;
  throw new BangerError('already_exists', `Another image has the name "${familiarName(name)}"`, {
    hint: 'Give this one a name, or that one on purpose, with: --name NAME',
  });
}
