import { stat } from 'node:fs/promises';
import { dirname } from 'node:path';
import { BangerError } from '../../errors.ts';
import { copyOnWriteName } from '../copy-on-write.ts';
import type { Exec } from '../exec.ts';
import { syncFile } from '../files.ts';
import { DeviceStack, recordSuffix, type StackOptions } from './device-stack.ts';
import { leastBytes, refuseCutOff, type DiskMethod, type RootDisk } from './disk-method.ts';
import { checkSpace } from './space.ts';

const sectorBytes = 512;
/** What the kernel copies at a first write. Smaller ones take more of its memory, which holds 40 bytes for each. */
const chunkBytes = 16 * 1024;
/** Where a chunk went, in the file: 16 bytes (Documentation/admin-guide/device-mapper/snapshot.rst, dm-snap-persistent.c) */
const chunksPerTable = chunkBytes / 16;

/** The devices of a VM, as device-mapper names them. */
export function deviceNames(id: string): { readonly snapshot: string; readonly base: string } {
  return { snapshot: `banger-${id}`, base: `banger-${id}-base` };
}

/**
 * A device of the kernel that reads the image and writes to a file. Needs root, and works on every filesystem.
 *
 * All of the file's room is taken when it is made: a snapshot that runs out of room is thrown away by the kernel, with
 * everything in it.
 */
export function dmSnapshot(exec: Exec, options: StackOptions = {}): DiskMethod {
  return {
    name: 'dm-snapshot',
    format: 'raw',
    growsLive: false,
    async create({ path, sizeBytes }, { signal }) {
      await refuseCopyOnWrite(dirname(path));
      const bytes = fileBytes(sizeBytes);
      await checkSpace(dirname(path), bytes);
      await takeRoom(exec, path, { bytes, signal });
      await syncFile(path);
    },
    async grow(disk) {
      const { path, sizeBytes } = disk;
      const bytes = fileBytes(sizeBytes);
      const has = (await stat(path)).size;
      refuseCutOff(disk, has, fileBytes(leastBytes(disk)));
      if (has >= bytes) return;
      await checkSpace(dirname(path), bytes - has);
      await takeRoom(exec, path, { bytes });
    },
    async attach({ id, path, backing, sizeBytes }) {
      const stack = new DeviceStack(exec, recordOf(path), options);
      // Of a start that was cut short, or of another size.
      await stack.takeDown();
      const names = deviceNames(id);
      try {
        const origin = await stack.addLoop(backing, { isReadOnly: true });
        const imageSectors = Math.floor((await stat(backing)).size / sectorBytes);
        const sectors = Math.max(Math.ceil(sizeBytes / sectorBytes), imageSectors);
        const base = await stack.addMapping(names.base, {
          table: [
            `0 ${imageSectors} linear ${origin} 0`,
            // Beyond the image there is nothing but zeros, until the guest writes there.
            ...(sectors > imageSectors ? [`${imageSectors} ${sectors - imageSectors} zero`] : []),
          ],
          isReadOnly: true,
        });
        const changes = await stack.addLoop(path, { isReadOnly: false });
        const device = await stack.addMapping(names.snapshot, {
          table: [`0 ${sectors} snapshot ${base} ${changes} P ${chunkBytes / sectorBytes}`],
          isReadOnly: false,
        });
        await refuseInvalid(exec, { id, path });
        return device;
      } catch (error) {
        await stack.takeDown();
        throw error;
      }
    },
    detach: ({ path }) => new DeviceStack(exec, recordOf(path), options).takeDown(),
  };
}

/** Where the devices that were made of a disk are written down. */
function recordOf(path: string): string {
  return `${path}${recordSuffix}`;
}

/** The file of a disk in which everything was changed: a header, every chunk, and where each of them is. */
export function fileBytes(sizeBytes: number): number {
  const chunks = Math.ceil(sizeBytes / chunkBytes);
  return (1 + chunks + Math.ceil(chunks / chunksPerTable) + 1) * chunkBytes;
}

/** Where room is not kept for what is written again, the snapshot would be thrown away on a full disk all the same. */
async function refuseCopyOnWrite(directory: string): Promise<void> {
  const name = await copyOnWriteName(directory);
  if (name === undefined) return;
  throw new BangerError(
    'host_unsupported',
    `${name} at "${directory}" keeps no room for what is written again, so that a full disk would destroy a snapshot`,
    { hint: 'Let banger choose: set method = "auto" under [disk] in the configuration' },
  );
}

/** The kernel makes a device of one that it has thrown away, too, and its guest would find no root disk. */
async function refuseInvalid(exec: Exec, { id, path }: Pick<RootDisk, 'id' | 'path'>): Promise<void> {
  const { stdout } = await exec(['dmsetup', 'status', deviceNames(id).snapshot]);
  const state = /snapshot (Invalid|Overflow)/.exec(stdout.toString('utf8'))?.[1];
  if (state === undefined) return;
  throw new BangerError(
    'invalid_state',
    `The disk "${path}" is lost: the kernel has thrown its snapshot away (${state}), as it does when a write finds no room`,
    { hint: `Make the VM again: banger vm delete ${id.slice(0, 12)}; banger vm create …` },
  );
}

async function takeRoom(
  exec: Exec,
  path: string,
  { bytes, signal }: { readonly bytes: number; readonly signal?: AbortSignal },
): Promise<void> {
  try {
    await exec(['fallocate', '-l', String(bytes), path], { signal });
  } catch (error) {
    if (!(error instanceof BangerError) || error.code !== 'command_failed') throw error;
    const isFull = error.message.includes('No space left on device');
    throw new BangerError(
      'host_unsupported',
      isFull
        ? `The disk is full: no space left to write "${path}"`
        : `The room for a disk could not be taken at "${path}": ${error.message}`,
      {
        hint: isFull
          ? 'Make room there, for example with: banger image prune --all; banger vm list'
          : 'Let banger choose: set method = "auto" under [disk] in the configuration',
        cause: error,
      },
    );
  }
}
