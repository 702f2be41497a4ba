import { statfs } from 'node:fs/promises';

/** Filesystems that write nothing in place (statfs(2)): room that a file has is none for what is written there again. */
const names: Readonly<Record<number, string>> = {
  0x9123683e: 'btrfs',
  0x2fc12fc1: 'ZFS',
  0xca451a4e: 'bcachefs',
  0x3434: 'NILFS2',
};

/** Name of the filesystem of a path, if it copies on every write. */
export async function copyOnWriteName(path: string): Promise<string | undefined> {
  // A number of 32 bits, which some kernels extend by its sign.
  return names[(await statfs(path)).type >>> 0];
}
