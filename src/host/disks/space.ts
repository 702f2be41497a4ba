import { statfs } from 'node:fs/promises';
import { BangerError } from '../../errors.ts';

/** Room a VM must find to be worth starting: its first minutes write logs and caches. */
const minFreeBytes = 64 * 1024 * 1024;

/**
 * Throws when the filesystem of a directory is all but full, or will be once `neededBytes` more are written: a guest
 * would find out in a worse way.
 */
export async function checkSpace(directory: string, neededBytes = 0): Promise<void> {
  const { bavail, bsize } = await statfs(directory);
  const freeBytes = bavail * bsize;
  if (freeBytes >= neededBytes + minFreeBytes) return;
  const mib = (bytes: number): number => Math.floor(bytes / 1024 / 1024);
  throw new BangerError(
    'host_unsupported',
    neededBytes === 0
      ? `The disk is full: ${mib(freeBytes)} MiB are free at "${directory}"`
      : `There is no room for a disk of ${mib(neededBytes)} MiB: ${mib(freeBytes)} MiB are free at "${directory}"`,
    {
      hint: 'Make room, for example by deleting what is not used: banger image list; banger vm list',
    },
  );
}
