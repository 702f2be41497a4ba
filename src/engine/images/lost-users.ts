import { closeSync, openSync, readdirSync, readSync } from 'node:fs';
import { errnoOf } from '../../errors.ts';
import { vmPaths, type Layout } from '../../state/layout.ts';
import { listVms } from '../../state/vms.ts';
import type { ImageContext } from '../context.ts';

/**
 * Directories of VMs that the database has lost (see unowned.ts) and whose disks hold only what differs from an image.
 * Of a snapshot nobody can tell which image that is, so that it counts for every one.
 */
export function lostUsersOf({ layout, db }: Pick<ImageContext, 'layout' | 'db'>, imageId: string): string[] {
  const known = new Set(listVms(db).map(({ id }) => id));
  return namesIn(layout)
    .filter((id) => /^[0-9a-f]{32}$/.test(id) && !known.has(id))
    .map((id) => vmPaths(layout, id))
    .filter(({ directory, disk }) => {
      const files = readdirSync(directory);
      if (files.includes('disk.cow')) return true;
      return files.includes('disk.qcow2') && backingOf(disk('qcow2')).includes(imageId);
    })
    .map(({ directory }) => directory);
}

/** Where the header of a qcow2 file says how long the name of the file is that it builds on, and where that name is. */
const backingOffsetAt = 8;
const backingSizeAt = 16;
/** No name is longer, says the format. */
const maxBackingBytes = 1023;

/** Path of the file that a disk builds on; empty for one that builds on none, or is cut short. */
function backingOf(disk: string): string {
  const file = openSync(disk, 'r');
  try {
    const header = Buffer.alloc(backingSizeAt + 4);
    readSync(file, header, 0, header.length, 0);
    const bytes = Math.min(header.readUInt32BE(backingSizeAt), maxBackingBytes);
    const name = Buffer.alloc(bytes);
    const read = readSync(file, name, 0, bytes, Number(header.readBigUInt64BE(backingOffsetAt)));
    return name.toString('utf8', 0, read);
  } finally {
    closeSync(file);
  }
}

function namesIn({ vmsDirectory }: Layout): string[] {
  try {
    return readdirSync(vmsDirectory);
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return [];
    throw error;
  }
}
