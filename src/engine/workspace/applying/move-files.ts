import type { BigIntStats } from 'node:fs';
import { chmod, copyFile, link, lstat, readlink, rename, symlink, unlink, utimes } from 'node:fs/promises';
import { errnoOf } from '../../../errors.ts';

/** What the kernel says where there are no hard links, or only for others, or not across filesystems. */
const noLinkErrors = ['EPERM', 'EXDEV', 'EMLINK', 'ENOTSUP', 'EOPNOTSUPP', 'ENOSYS'];

/** What is at a path, of a symlink that itself; undefined when there is nothing. */
export async function lstatIfThere(path: Buffer): Promise<BigIntStats | undefined> {
  try {
    return await lstat(path, { bigint: true });
  } catch (error) {
    if (errnoOf(error) === 'ENOENT' || errnoOf(error) === 'ENOTDIR') return undefined;
    throw error;
  }
}

/** Gives a file or symlink a second name; a copy of it, where it cannot have one. */
export async function keepUnder(path: Buffer, name: Buffer): Promise<void> {
  try {
    await link(path, name);
  } catch (error) {
    if (!noLinkErrors.includes(errnoOf(error) ?? '')) throw error;
    await copy(path, name);
  }
}

/** Puts a file in the place of whatever file is there; across filesystems by way of a copy beside it. */
export async function moveOver(from: Buffer, to: Buffer): Promise<void> {
  try {
    await rename(from, to);
  } catch (error) {
    if (errnoOf(error) !== 'EXDEV') throw error;
    const directory = to.subarray(0, to.lastIndexOf('/') + 1);
    const beside = Buffer.concat([directory, Buffer.from(`.banger-${process.pid}.partial`)]);
    try {
      await copy(from, beside);
      await rename(beside, to);
    } catch (failed) {
      await unlink(beside).catch(() => undefined);
      throw failed;
    }
  }
}

/** Puts a file where none is; false when there is something, which stays, also if it was made just now. */
export async function moveToFree(from: Buffer, to: Buffer): Promise<boolean> {
  try {
    await link(from, to);
    return true;
  } catch (error) {
    const errno = errnoOf(error) ?? '';
    if (errno === 'EEXIST') return false;
    if (!noLinkErrors.includes(errno)) throw error;
  }
  if (await lstatIfThere(to)) return false;
  await moveOver(from, to);
  return true;
}

async function copy(from: Buffer, to: Buffer): Promise<void> {
  const stats = await lstat(from);
  if (stats.isSymbolicLink()) return symlink(await readlink(from, { encoding: 'buffer' }), to);
  await copyFile(from, to);
  await chmod(to, stats.mode & 0o7777);
  await utimes(to, stats.atime, stats.mtime);
}
