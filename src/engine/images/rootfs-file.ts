import { stat } from 'node:fs/promises';
import { BangerError, errnoOf } from '../../errors.ts';
import { standsOnImage } from '../../host/disks/disk-method.ts';
import type { ExternalFile, Image } from '../../state/images.ts';
import { vmsOfImage } from '../../state/images.ts';
import { imagePaths } from '../../state/layout.ts';
import { listVms } from '../../state/vms.ts';
import type { ImageContext } from '../context.ts';
import { baseName, shownImage } from './find-image.ts';
import { originsOf } from './image-origins.ts';
import { rootfsFate } from './rootfs-mark.ts';

/** Where an image's filesystem is, whatever may have become of it. */
export function rootfsPlace({ layout }: Pick<ImageContext, 'layout'>, image: Image): string {
  return image.external?.path ?? imagePaths(layout, image.id).rootfs;
}

/** Names of VMs whose disks are of no use without the filesystem of an image as it was. */
export function vmsStandingOn({ db }: Pick<ImageContext, 'db'>, imageId: string): string[] {
  return listVms(db)
    .filter((vm) => vm.imageId === imageId && standsOnImage(vm.diskMethod))
    .map(({ name }) => name)
    .toSorted();
}

/**
 * Path of an image's filesystem. One that is not what it was when it was published or registered is refused, because
 * disks of VMs are written over it block by block.
 */
export async function rootfsFile(
  context: Pick<ImageContext, 'layout' | 'db'>,
  image: Image,
): Promise<string> {
  if (!image.external) return ownRootfs(context, image);
  const { path } = image.external;
  const now = await identify(path).catch((error: unknown) => {
    if (errnoOf(error) === 'ENOENT' || errnoOf(error) === 'ENOTDIR') return undefined;
    throw error;
  });
  if (now && sameFile(now, image.external)) return path;
  const fate = now ? 'has changed since it was registered' : 'is gone';
  throw new BangerError(
    'invalid_state',
    `"${path}", which is image "${shownImage(image)}"${usersOf(context, image)}, ${fate}`,
    { hint: now ? wayOn(path, image) : wayBackOf(context, image) },
  );
}

function wayOn(path: string, image: Image): string {
  const name = image.names.length > 0 ? shownImage(image) : 'NAME';
  return `Make a new image of what it is now: banger image register ${path} --name ${name}`;
}

/** It is known by its inode, and an image is not forgotten while VMs are made of it. */
function wayBackOf({ db }: Pick<ImageContext, 'db'>, image: Image): string {
  const vms = vmsOfImage(db, image.id);
  const forget = `banger image delete ${shownImage(image)}`;
  const first = vms.length > 0 ? `banger vm delete ${vms.join(' ')}; ` : '';
  return `Move it back (a copy counts as another file), or forget the image: ${first}${forget}`;
}

function usersOf(context: Pick<ImageContext, 'db'>, image: Image): string {
  const vms = vmsStandingOn(context, image.id).map((name) => `"${name}"`);
  return vms.length > 0 ? `, on which VM ${vms.join(', ')} ${vms.length > 1 ? 'stand' : 'stands'}` : '';
}

async function ownRootfs(context: Pick<ImageContext, 'layout' | 'db'>, image: Image): Promise<string> {
  const { rootfs } = imagePaths(context.layout, image.id);
  const fate = await rootfsFate(context, image);
  if (fate === 'same') return rootfs;
  const users = usersOf(context, image);
  const what = `The filesystem of image "${shownImage(image)}"${users}${users === '' ? '' : ','}`;
  throw new BangerError(
    'invalid_state',
    `${what} ${fate === 'gone' ? 'is gone' : 'was changed by somebody'}: "${rootfs}"`,
    { hint: wayBack(image) },
  );
}

/** How the same filesystem comes again; VMs made from it go on with it. */
function wayBack(image: Image): string {
  const then = 'VMs made from it start again then';
  const name = shownImage(image);
  const [origin] = originsOf(image);
  const source = image.names.includes(baseName) ? baseName : origin?.reference;
  if (source !== undefined) return `Fetch it again: banger image pull ${source} (${then})`;
  if (image.names.length === 0) {
    return `Pull or import what it was made of once more (${then}), or delete the VMs: banger vm delete NAME`;
  }
  if (image.source === 'pull') {
    return `It was pulled, and no name that is left says from where: pull it by the name that it has there (${then})`;
  }
  return `Make it again of what it was made of: banger image import FILE --name ${name} (${then})`;
}

/** What a file of the user's is known by. */
export async function identify(path: string): Promise<ExternalFile> {
  const found = await stat(path, { bigint: true });
  return {
    path,
    sizeBytes: Number(found.size),
    mtimeNs: String(found.mtimeNs),
    inode: String(found.ino),
  };
}

export function sameFile(left: ExternalFile, right: ExternalFile): boolean {
  return left.sizeBytes === right.sizeBytes && left.mtimeNs === right.mtimeNs && left.inode === right.inode;
}
