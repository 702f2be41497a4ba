import { createHash } from 'node:crypto';
import { open, stat } from 'node:fs/promises';
import { errnoOf } from '../../errors.ts';
import { setImageRootfs, type Image, type RootfsMark } from '../../state/images.ts';
import { imagePaths } from '../../state/layout.ts';
import type { ImageContext } from '../context.ts';

/** Read whole: superblock, and group descriptors with the checksums of the bitmaps. */
const headBytes = 1 << 20;
const blockBytes = 4096;
/** Blocks looked at besides, spread evenly: most content lies in the first part of a filesystem that has room to grow. */
const samples = [
  { upTo: 512 * 2 ** 20, count: 256 },
  { upTo: Infinity, count: 256 },
];

/** What has become of a filesystem since it was published. */
export type RootfsFate = 'same' | 'changed' | 'gone';

/** Takes down what tells later that a filesystem is still what it is now. Some two megabytes of it are read. */
export async function markRootfs(path: string): Promise<RootfsMark> {
  const { mtimeNs, ino } = await stat(path, { bigint: true });
  return { mtimeNs: String(mtimeNs), inode: String(ino), sample: await sampleOf(path) };
}

/**
 * Compares an image's filesystem, a file of ours, with what was published.
 *
 * Nobody writes to it, so size, inode and time of change tell. Another inode is no change by itself: the state
 * directory was copied or restored. Then samples of the content decide, and the new file is the one known from now on.
 */
export async function rootfsFate(
  { layout, db }: Pick<ImageContext, 'layout' | 'db'>,
  image: Image,
): Promise<RootfsFate> {
  const path = imagePaths(layout, image.id).rootfs;
  const now = await stat(path, { bigint: true }).catch((error: unknown) => {
    if (errnoOf(error) === 'ENOENT') return undefined;
    throw error;
  });
  if (!now) return 'gone';
  if (Number(now.size) !== image.sizeBytes) return 'changed';
  const known = image.rootfs;
  if (known?.inode === String(now.ino)) {
    return known.mtimeNs === String(now.mtimeNs) ? 'same' : 'changed';
  }
  const mark = await markRootfs(path);
  // Images of earlier versions have no mark yet.
  if (known && known.sample !== mark.sample) return 'changed';
  setImageRootfs(db, image.id, { sizeBytes: image.sizeBytes, rootfs: mark });
  return 'same';
}

async function sampleOf(path: string): Promise<string> {
  const file = await open(path, 'r');
  try {
    const hash = createHash('sha256');
    const buffer = Buffer.alloc(headBytes);
    const add = async (length: number, position: number): Promise<void> => {
      const { bytesRead } = await file.read(buffer, 0, length, position);
      hash.update(buffer.subarray(0, bytesRead));
    };
    const { size } = await file.stat();
    await add(headBytes, 0);
    for (const { upTo, count } of samples) {
      const step = Math.max(blockBytes, Math.floor(Math.min(size, upTo) / count / blockBytes) * blockBytes);
      for (let position = headBytes; position < Math.min(size, upTo); position += step) {
        await add(blockBytes, position);
      }
    }
    // What is cut off or appended shows here at the latest.
    await add(blockBytes, Math.max(0, size - blockBytes));
    return hash.digest('hex');
  } finally {
    await file.close();
  }
}
