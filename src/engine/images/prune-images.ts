import { renameSync, statSync } from 'node:fs';
import { readdir, rm, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { BangerError, errnoOf, errorText } from '../../errors.ts';
import { namesIn } from '../../host/files.ts';
import { findImageById, listImages, vmsOfImage, type Image } from '../../state/images.ts';
import { imagePaths } from '../../state/layout.ts';
import type { Operation } from '../operations.ts';
import type { PruneItem, PruneReport } from '../rpc/image-prune-methods.ts';
import { forgetImage, withDiscarded } from './delete-image.ts';
import { shownImage } from './find-image.ts';
import { lostUsersOf } from './lost-users.ts';
import { imageServices, type ImagesContext } from './image-services.ts';
import { isLiveStaging } from './image-staging.ts';
import { familiarName } from './reference.ts';
import { blobFile, discardedBlobPath } from './registry/blob-files.ts';

export interface PruneParams {
  readonly all: boolean;
  readonly dryRun: boolean;
}

/** Something that can be removed, and whether it will be. */
interface Verdict extends PruneItem {
  readonly goes: boolean;
}

/**
 * Removes what nobody needs, and tells for everything why it went or stayed.
 *
 * It decides again at the moment of removal: a VM, a name or a pull may have come in between, and keeps its image and
 * its layers.
 */
export async function pruneImages(
  context: ImagesContext,
  params: PruneParams,
  operation: Operation,
): Promise<PruneReport> {
  operation.enter('Looking for what nobody needs');
  const removed: PruneItem[] = [];
  const kept: PruneItem[] = [];
  const settle = async (verdict: Verdict, remove: () => Promise<string | undefined>): Promise<void> => {
    const { goes, ...item } = verdict;
    if (!goes) return void kept.push(item);
    const obstacle = params.dryRun ? undefined : await remove();
    if (obstacle === undefined) removed.push(item);
    else kept.push({ ...item, why: obstacle });
  };

  for (const image of listImages(context.db)) {
    await settle(await judgeImage(context, image, params), () =>
      removeImage(context, image.id, params, operation),
    );
  }
  // A dry run must see the blobs as they would be without the images that go.
  const gone = new Set(removed.map((item) => item.id));
  const images = listImages(context.db).filter((image) => !gone.has(image.id));
  for (const name of await namesIn(context.layout.blobsDirectory)) {
    const verdict = await judgeBlob(context, name, { params, images });
    if (verdict) await settle(verdict, () => removeBlob(context, name));
  }
  for (const name of await namesIn(context.layout.imageStagingDirectory)) {
    await settle(await judgeStaging(context, name), () => removeStaging(context, name));
  }
  return { removed, kept, freedBytes: removed.reduce((sum, item) => sum + item.bytes, 0) };
}

async function judgeImage(context: ImagesContext, image: Image, params: PruneParams): Promise<Verdict> {
  const item = {
    kind: 'image' as const,
    id: image.id,
    names: image.names.map(familiarName),
    bytes: await diskBytes(imagePaths(context.layout, image.id).directory),
  };
  const obstacle = imageObstacle(context, image, params);
  if (obstacle !== undefined) return { ...item, goes: false, why: obstacle };
  return { ...item, goes: true, why: image.names.length === 0 ? 'has no name, and no VM' : 'no VM uses it' };
}

/** Why an image stays; undefined when it may go. */
function imageObstacle(context: ImagesContext, image: Image, { all }: PruneParams): string | undefined {
  const vms = vmsOfImage(context.db, image.id);
  if (vms.length > 0) return `used by VM ${vms.map((name) => `"${name}"`).join(', ')}`;
  if (imageServices(context).leases.images.isTaken(image.id)) return 'used by work in progress';
  if (image.external) return `your own file "${image.external.path}"; forget it with: banger image delete`;
  const [lost] = lostUsersOf(context, image.id);
  if (lost !== undefined)
    return `may be used by "${lost}", which the database does not know; see: banger doctor`;
  if (!all && image.names.length > 0) return 'has a name; --all removes it';
  return undefined;
}

async function removeImage(
  context: ImagesContext,
  id: string,
  params: PruneParams,
  operation: Operation,
): Promise<string | undefined> {
  return withDiscarded(context, operation.signal, async (discarded) => {
    const image = findImageById(context.db, id);
    if (!image) return undefined;
    const obstacle = imageObstacle(context, image, params);
    if (obstacle !== undefined) return obstacle;
    try {
      operation.progress({ detail: shownImage(image) });
      await forgetImage(context, image, discarded);
      return undefined;
    } catch (error) {
      // Somebody began to use it between two looks.
      if (error instanceof BangerError) return errorText(error);
      throw error;
    }
  });
}

async function judgeBlob(
  context: ImagesContext,
  name: string,
  { params, images }: { params: PruneParams; images: readonly Image[] },
): Promise<Verdict | undefined> {
  const file = blobFile(name);
  // Anything with another kind of name is not ours.
  if (!file) return undefined;
  const { digest, kind } = file;
  const found = await stat(join(context.layout.blobsDirectory, name)).catch(() => undefined);
  if (!found) return undefined;
  const item = {
    kind: kind === 'complete' ? ('blob' as const) : ('partial' as const),
    id: digest,
    names: [],
  };
  const verdict = (goes: boolean, why: string): Verdict => ({ ...item, bytes: found.size, goes, why });
  if (kind === 'discarded') return verdict(true, 'left over');
  if (imageServices(context).leases.blobs.isTaken(digest)) return verdict(false, 'used by work in progress');
  if (kind === 'partial') return verdict(true, 'a download that was not finished');
  const users = images.filter((image) => image.layers.includes(digest));
  if (users.length === 0) return verdict(true, 'a layer of no image here');
  const names = users.map(shownImage).join(', ');
  if (params.all) return verdict(true, `a download, unpacked in ${names}`);
  return verdict(false, `a layer of ${names}, kept for images that share it; --all removes it`);
}

/** Moves a blob away in one go, so that no pull finds it while it is being removed. */
async function removeBlob(context: ImagesContext, name: string): Promise<string | undefined> {
  const file = blobFile(name);
  if (!file || imageServices(context).leases.blobs.isTaken(file.digest)) return 'used by work in progress';
  const path = join(context.layout.blobsDirectory, name);
  const discarded = discardedBlobPath(context.layout.blobsDirectory, file.digest);
  try {
    renameSync(path, discarded);
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return undefined;
    throw error;
  }
  await rm(discarded, { force: true });
  return undefined;
}

async function judgeStaging(context: ImagesContext, name: string): Promise<Verdict> {
  const path = join(context.layout.imageStagingDirectory, name);
  const item = { kind: 'staging' as const, id: name, names: [], bytes: await diskBytes(path) };
  if (isLiveStaging(name)) return { ...item, goes: false, why: 'used by work in progress' };
  return { ...item, goes: true, why: 'left by an engine that was killed' };
}

async function removeStaging(context: ImagesContext, name: string): Promise<undefined> {
  await rm(join(context.layout.imageStagingDirectory, name), { recursive: true, force: true });
}

/** What a file or a directory of files takes on the disk, holes not counted. Whoever uses it may remove it meanwhile. */
export async function diskBytes(path: string): Promise<number> {
  const found = statSync(path, { throwIfNoEntry: false });
  if (!found) return 0;
  if (!found.isDirectory()) return found.blocks * 512;
  try {
    return await directoryBytes(path);
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return 0;
    throw error;
  }
}

async function directoryBytes(path: string): Promise<number> {
  let sum = 0;
  for (const entry of await readdir(path, { withFileTypes: true, recursive: true })) {
    if (!entry.isFile()) continue;
    sum += (statSync(join(entry.parentPath, entry.name), { throwIfNoEntry: false })?.blocks ?? 0) * 512;
  }
  return sum;
}
