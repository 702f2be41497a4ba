import { open, statfs } from 'node:fs/promises';
import { dirname } from 'node:path';
import { BangerError } from '../errors.ts';
import type { Exec } from './exec.ts';

/**
 * Makes a VM's root disk: a qcow2 file that holds what differs from the image's filesystem, which is shared and
 * never written. Takes no time and next to no space, whatever the size.
 */
export async function createOverlayDisk(
  exec: Exec,
  options: {
    readonly backing: string;
    readonly path: string;
    readonly sizeBytes: number;
    readonly signal: AbortSignal;
  },
): Promise<void> {
  await checkSpace(dirname(options.path));
  await exec(
    [
      'qemu-img',
      'create',
      '-q',
      '-f',
      'qcow2',
      '-F',
      'raw',
      '-b',
      options.backing,
      options.path,
      String(options.sizeBytes),
    ],
    { signal: options.signal },
  );
}

/** Makes the disk of a VM that does not run larger. One that is large enough is left alone. */
export async function growOverlayDisk(exec: Exec, path: string, sizeBytes: number): Promise<void> {
  if ((await virtualSize(path)) >= sizeBytes) return;
  await exec(['qemu-img', 'resize', '-q', '-f', 'qcow2', path, String(sizeBytes)]);
}

/** Bytes 24 to 31 of a qcow2 file, as its specification has it. */
async function virtualSize(path: string): Promise<number> {
  const file = await open(path, 'r');
  try {
    const header = Buffer.alloc(32);
    await file.read(header, 0, header.length, 0);
    return Number(header.readBigUInt64BE(24));
  } finally {
    await file.close();
  }
}

/** Room a VM must find to be worth starting: its first minutes write logs and caches. */
const minFreeBytes = 64 * 1024 * 1024;

/** Throws when the filesystem of a directory is all but full: a guest would find out in a worse way. */
export async function checkSpace(directory: string): Promise<void> {
  const { bavail, bsize } = await statfs(directory);
  const freeBytes = bavail * bsize;
  if (freeBytes >= minFreeBytes) return;
  throw new BangerError(
    'host_unsupported',
    `The disk is full: ${Math.floor(freeBytes / 1024 / 1024)} MiB are free at "${directory}"`,
    {
      hint: 'Make room, for example by deleting what is not used: banger image list; banger vm list',
    },
  );
}
