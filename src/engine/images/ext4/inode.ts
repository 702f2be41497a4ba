import { crc32c, crc32cOfNumber } from './crc32c.ts';
import { inodeSize, nodeTypes } from './format.ts';
import type { InodeTime } from './inode-time.ts';
import type { InodeAttributes } from './node-table.ts';

/** The part of an inode that depends on its kind. */
export interface InodeContents {
  readonly sizeBytes: number;
  /** Blocks that hold contents, extent tree included */
  readonly blocks: number;
  /** The 60 bytes of `i_block`: extent tree, device number or short symlink target */
  readonly blockArea: Buffer;
  /** Flags of `inodeFlags` */
  readonly flags: number;
}

export interface InodeRecord {
  readonly type: keyof typeof nodeTypes;
  readonly attributes: InodeAttributes;
  readonly links: number;
  readonly contents: InodeContents;
  /** Block with xattrs that do not fit the inode, 0 if none */
  readonly xattrBlock: number;
  /** Xattrs that fit behind the fixed fields, from offset 160 on */
  readonly inlineXattrs: Buffer | undefined;
}

export const inlineXattrOffset = 160;
const extraIsize = 32;
const checksumLowOffset = 0x7c;
const checksumHighOffset = 0x82;

/** Checksums of an inode and of all its blocks start from its number and generation (ours is 0). */
export function inodeChecksumSeed(filesystemSeed: number, inode: number): number {
  return crc32cOfNumber(crc32cOfNumber(filesystemSeed, inode), 0);
}

/** Writes one inode into its slot of the table (Documentation/filesystems/ext4/inodes.rst). The slot is zeros. */
export function encodeInode(slot: Buffer, record: InodeRecord, seed: number): void {
  const { attributes, contents } = record;
  slot.writeUInt16LE(nodeTypes[record.type].mode | attributes.mode, 0x0);
  slot.writeUInt16LE(attributes.uid & 0xffff, 0x2);
  slot.writeUInt16LE(attributes.gid & 0xffff, 0x18);
  slot.writeUInt16LE(attributes.uid >>> 16, 0x78);
  slot.writeUInt16LE(attributes.gid >>> 16, 0x7a);
  slot.writeUInt32LE(contents.sizeBytes % 2 ** 32, 0x4);
  slot.writeUInt32LE(Math.floor(contents.sizeBytes / 2 ** 32), 0x6c);
  slot.writeUInt16LE(record.links, 0x1a);
  // In units of 512 bytes, with 48 bits (huge_file).
  const sectors = (contents.blocks + (record.xattrBlock === 0 ? 0 : 1)) * 8;
  slot.writeUInt32LE(sectors % 2 ** 32, 0x1c);
  slot.writeUInt16LE(Math.floor(sectors / 2 ** 32), 0x74);
  slot.writeUInt32LE(contents.flags, 0x20);
  contents.blockArea.copy(slot, 0x28, 0, 60);
  slot.writeUInt32LE(record.xattrBlock, 0x68);
  slot.writeUInt16LE(extraIsize, 0x80);
  writeTimes(slot, attributes.mtime);
  record.inlineXattrs?.copy(slot, inlineXattrOffset);
  writeChecksum(slot, seed);
}

function writeChecksum(slot: Buffer, seed: number): void {
  const checksum = crc32c(seed, slot.subarray(0, inodeSize));
  slot.writeUInt16LE(checksum & 0xffff, checksumLowOffset);
  slot.writeUInt16LE(checksum >>> 16, checksumHighOffset);
}

/** All four times are the modification time: the same layers must give the same bytes. */
function writeTimes(slot: Buffer, { low, extra }: InodeTime): void {
  for (const [lowOffset, extraOffset] of [
    [0x8, 0x8c],
    [0xc, 0x84],
    [0x10, 0x88],
    [0x90, 0x94],
  ] as const) {
    slot.writeUInt32LE(low, lowOffset);
    slot.writeUInt32LE(extra, extraOffset);
  }
}

/** The old 8:8 encoding where it fits, else the new 12:20 one in the second word, as the kernel does. */
export function deviceBlockArea({
  major,
  minor,
}: {
  readonly major: number;
  readonly minor: number;
}): Buffer {
  const area = Buffer.alloc(60);
  if (major < 256 && minor < 256) area.writeUInt32LE((major << 8) | minor, 0);
  else area.writeUInt32LE(((minor & 0xff) | (major << 8) | ((minor & ~0xff) << 12)) >>> 0, 4);
  return area;
}
