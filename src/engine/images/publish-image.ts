import { existsSync, statSync } from 'node:fs';
import { chmod, mkdir, open, readdir, rename, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { errnoOf } from '../../errors.ts';
import { syncDirectory } from '../../host/files.ts';
import type { Database } from '../../state/database.ts';
import {
  findImageById,
  getImage,
  insertImage,
  listImages,
  setImageName,
  type Image,
} from '../../state/images.ts';
import { imagePaths, type Layout } from '../../state/layout.ts';
import type { ImageContext } from '../context.ts';
import { failpoint } from '../failpoints.ts';
import { discardPath } from './image-staging.ts';

export type NewImage = Omit<Image, 'names' | 'createdAt'>;

/** What a name is to lead to. */
export interface Publication {
  /** Holds `rootfs.ext4`, and the image's documents if it has any; renamed when the image is new, else left to be removed */
  readonly stagingDirectory: string;
  readonly image: NewImage;
  /** Stored name; it moves here when it led elsewhere */
  readonly name: string;
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
  await syncFile(rootfs);
  await syncDirectory(stagingDirectory);
  await failpoint('image synced');

  return context.locks.publish.run(publishKey, signal, async () => {
    const { layout, db } = context;
    if (!isPresent(context, image.id)) {
      const { directory } = imagePaths(layout, image.id);
      await mkdir(layout.imagesDirectory, { recursive: true, mode: 0o700 });
      // Without its row or without its filesystem, what lies there is of no use to anybody.
      if (existsSync(directory)) await rename(directory, discardPath(layout));
      await failpoint('place free');
      await rename(stagingDirectory, directory);
      await syncDirectory(layout.imagesDirectory);
      try {
        await failpoint('image in place');
        return record(context, publication);
      } catch (error) {
        if (!findImageById(db, image.id)) await rm(directory, { recursive: true, force: true });
        throw error;
      }
    }
    return record(context, publication);
  });
}

/** Points a name at an image that is present already, or returns undefined when it is not (any more). */
export async function nameImage(
  context: ImageContext,
  { id, name }: { id: string; name: string },
  signal: AbortSignal,
): Promise<Image | undefined> {
  return context.locks.publish.run(publishKey, signal, async () => {
    if (!isPresent(context, id)) return undefined;
    setImageName(context.db, name, id);
    return getImage(context.db, id);
  });
}

/**
 * True when an image has both its row and its filesystem. One of another size was cut off or written to: it counts as
 * gone. A file of the user's is checked where it is used.
 */
export function isPresent({ layout, db }: Pick<ImageContext, 'layout' | 'db'>, id: string): boolean {
  const image = findImageById(db, id);
  if (!image) return false;
  if (image.external) return existsSync(image.external.path);
  return statSync(imagePaths(layout, id).rootfs, { throwIfNoEntry: false })?.size === image.sizeBytes;
}

/** Removes images that were under construction when an engine died. Only for the start of an engine. */
export async function cleanStaging(layout: Layout): Promise<void> {
  await rm(layout.imageStagingDirectory, { recursive: true, force: true });
}

/**
 * Removes directories of images that no row owns: an engine died between renaming and recording, or between
 * forgetting and removing. Only for the start of an engine, before anything is published.
 */
export async function removeUnownedImages(layout: Layout, db: Database): Promise<void> {
  const owned = new Set(listImages(db).map((image) => image.id));
  for (const name of await namesIn(layout.imagesDirectory)) {
    // Anything with another kind of name is not ours.
    if (!/^[0-9a-f]{64}$/.test(name) || owned.has(name)) continue;
    await rm(join(layout.imagesDirectory, name), { recursive: true, force: true });
  }
}

function record({ db }: ImageContext, { image, name }: Publication): Image {
  db.transaction(() => {
    insertImage(db, { ...image, createdAt: new Date().toISOString() });
    setImageName(db, name, image.id);
  })();
  return getImage(db, image.id);
}

async function syncFile(path: string): Promise<void> {
  const file = await open(path, 'r');
  try {
    await file.sync();
  } finally {
    await file.close();
  }
}

async function namesIn(directory: string): Promise<string[]> {
  try {
    return await readdir(directory);
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return [];
    throw error;
  }
}
