import { statfs } from 'node:fs/promises';

/** Filesystems that write nothing in place (statfs(2)): room that a file has is none for what is written there again. */
const names: Readonly<Record<number, string>> = {
  0x9123683e: 'btrfs',
  0x2fc12fc1: 'ZFS',
  0xca451a4e: 'bcachefs',
  0x3434: 'NILFS2',
};

/** Those that write in place and cannot share blocks: a file without holes has all of its room there (ext4, tmpfs). */
const inPlace = new Set([0xef53, 0x01021994]);

/** Name of the filesystem of a path, if it copies on every write. */
export async function copyOnWriteName(path: string): Promise<string | undefined> {
  return names[await typeOf(path)];
}

/** True where what is written to a file again needs no room: its blocks are its own, and stay where they are. */
export async function writesInPlace(path: string): Promise<boolean> {
  return inPlace.has(await typeOf(path));
}

/** A number of 32 bits, which some kernels extend by its sign. */
async function typeOf(path: string): Promise<number> {
  return (await statfs(path)).type >>> 0;
}
