import { open } from 'node:fs/promises';
import { dirname } from 'node:path';
import type { Exec } from '../exec.ts';
import { syncFile } from '../files.ts';
import { plainFile, leastBytes, refuseCutOff, type DiskMethod } from './disk-method.ts';
import { checkSpace } from './space.ts';

/**
 * A file that holds what differs from the image's filesystem. Takes no time and next to no space, whatever the size
 * and whatever the host's filesystem. QEMU alone can read it.
 */
export function qcow2Overlay(exec: Exec): DiskMethod {
  return {
    ...plainFile,
    name: 'qcow2',
    format: 'qcow2',
    growsLive: true,
    async create({ backing, path, sizeBytes }, { signal }) {
      await checkSpace(dirname(path));
      const base = ['-F', 'raw', '-b', backing];
      await exec(['qemu-img', 'create', '-q', '-f', 'qcow2', ...base, path, String(sizeBytes)], { signal });
      // It flushes by itself, which its manual does not promise.
      await syncFile(path);
    },
    async grow(disk) {
      const { path, sizeBytes } = disk;
      const has = await virtualSize(path);
      refuseCutOff(disk, has, leastBytes(disk));
      if (has >= sizeBytes) return;
      await exec(['qemu-img', 'resize', '-q', '-f', 'qcow2', path, String(sizeBytes)]);
    },
  };
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
