import { stat } from 'node:fs/promises';
import { BangerError, errnoOf } from '../../errors.ts';
import type { ExternalFile, Image } from '../../state/images.ts';
import { imagePaths } from '../../state/layout.ts';
import type { ImageContext } from '../context.ts';
import { shownImage } from './find-image.ts';

/**
 * Path of an image's filesystem. A registered one is the user's file: one that is not what it was when it was
 * registered is refused, because disks of VMs are written over it block by block.
 */
export async function rootfsFile({ layout }: Pick<ImageContext, 'layout'>, image: Image): Promise<string> {
  if (!image.external) return imagePaths(layout, image.id).rootfs;
  const { path } = image.external;
  const now = await identify(path).catch((error: unknown) => {
    if (errnoOf(error) === 'ENOENT' || errnoOf(error) === 'ENOTDIR') return undefined;
    throw error;
  });
  if (now && sameFile(now, image.external)) return path;
  const name = shownImage(image);
  throw new BangerError(
    'invalid_state',
    `"${path}", which is image "${name}", ${now ? 'has changed since it was registered' : 'is gone'}`,
    {
      hint: now
        ? `Make a new image of what it is now: banger image register ${path} --name ${name}`
        : `Put it back, or forget the image: banger image delete ${name}`,
    },
  );
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
