import { constants, copyFile, stat, truncate } from 'node:fs/promises';
import { dirname } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { BangerError, errnoOf } from '../../errors.ts';
import type { Exec } from '../exec.ts';
import { syncFile } from '../files.ts';
import { Deadline } from '../patience.ts';
import {
  plainFile,
  leastBytes,
  refuseCutOff,
  type DiskMethod,
  type DiskWork,
  type RootDisk,
} from './disk-method.ts';
import { checkSpace } from './space.ts';

const blockBytes = 512;
/** Of gigabytes, from and to a disk that turns. */
const copyTimeoutMs = 60 * 60 * 1000;
const progressMs = 250;

/** What a filesystem answers that cannot share blocks between two files, or not between these two. */
const noReflink = new Set(['ENOTSUP', 'EOPNOTSUPP', 'EXDEV', 'EINVAL', 'ENOTTY', 'ENOSYS']);

/** True for an error that says that the filesystem cannot share blocks. */
export function isNoReflink(error: unknown): boolean {
  return noReflink.has(errnoOf(error) ?? '');
}

/** How long blocks may take to be on disk: ZFS writes them in rounds of 5 s, more when it is busy. */
const unwrittenTimeoutMs = 10_000;
const unwrittenPollMs = 250;

/**
 * Makes a file that shares the blocks of another one. ZFS refuses blocks that are not on disk yet, as those of an
 * image that was just pulled (https://github.com/openzfs/zfs/issues/15842): they are waited for, and EAGAIN is its last
 * word.
 */
export async function shareBlocks(
  from: string,
  to: string,
  { copy = copyFile, timeoutMs = unwrittenTimeoutMs } = {},
): Promise<void> {
  const deadline = new Deadline(timeoutMs);
  for (;;) {
    try {
      return await copy(from, to, constants.COPYFILE_FICLONE_FORCE);
    } catch (error) {
      if (errnoOf(error) !== 'EAGAIN' || deadline.isOver()) throw error;
    }
    await syncFile(from);
    await sleep(unwrittenPollMs);
  }
}

/** A file that shares the image's blocks until one of both is written: btrfs, XFS and the like. */
export const reflinkClone: DiskMethod = {
  ...plainFile,
  name: 'reflink',
  format: 'raw',
  growsLive: true,
  async create(disk) {
    const { backing, path } = disk;
    await checkSpace(dirname(path));
    try {
      await shareBlocks(backing, path);
    } catch (error) {
      if (errnoOf(error) === 'EAGAIN')
        throw new BangerError(
          'busy',
          `"${dirname(path)}" cannot share the blocks of "${backing}" yet: its filesystem has not written them (EAGAIN)`,
          {
            hint: 'Try again in a while; or let banger choose: set method = "auto" under [disk] in the configuration',
            cause: error,
          },
        );
      if (!isNoReflink(error)) throw error;
      throw new BangerError(
        'host_unsupported',
        `"${dirname(path)}" cannot share the blocks of "${backing}": disks cannot be made by reflink there (${errnoOf(error)})`,
        {
          hint: 'Let banger choose: set method = "auto" under [disk] in the configuration',
          cause: error,
        },
      );
    }
    await growFile(disk);
    await syncFile(path);
  },
  grow: growFile,
};

/** A copy of the image's filesystem. What is a hole or zeros there is a hole here. */
export function sparseCopy(exec: Exec): DiskMethod {
  return {
    ...plainFile,
    name: 'copy',
    format: 'raw',
    growsLive: true,
    async create(disk, work) {
      await copySparsely(exec, disk, work);
      await growFile(disk);
      await syncFile(disk.path);
    },
    grow: growFile,
  };
}

async function copySparsely(
  exec: Exec,
  { backing, path }: RootDisk,
  { signal, onProgress }: DiskWork,
): Promise<void> {
  const total = (await stat(backing)).blocks * blockBytes;
  await checkSpace(dirname(path), total);
  const tell = async (): Promise<void> => {
    const written = (await stat(path).catch(() => undefined))?.blocks ?? 0;
    onProgress?.(Math.min(written * blockBytes, total), total);
  };
  const timer = setInterval(() => void tell(), progressMs);
  try {
    // It asks the filesystem where the holes are: gigabytes of them cost nothing.
    await exec(['cp', '--reflink=never', '--sparse=always', '--', backing, path], {
      signal,
      timeoutMs: copyTimeoutMs,
    });
  } catch (error) {
    if (!(error instanceof BangerError) || !error.message.includes('No space left on device')) throw error;
    throw new BangerError('host_unsupported', `The disk is full: no space left to write "${path}"`, {
      hint: 'Make room there, for example with: banger image prune --all; banger vm list',
      cause: error,
    });
  } finally {
    clearInterval(timer);
  }
}

/** Longer by a hole. */
async function growFile(disk: RootDisk): Promise<void> {
  const { path, sizeBytes } = disk;
  const { size } = await stat(path);
  refuseCutOff(disk, size, leastBytes(disk));
  if (size < sizeBytes) await truncate(path, sizeBytes);
}
