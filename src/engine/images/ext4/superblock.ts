import { crc32c } from './crc32c.ts';
import {
  blockSize,
  blocksPerGroup,
  descriptorBlocks,
  featureCompat,
  featureIncompat,
  featureReadOnlyCompat,
  inodeNumbers,
  inodeSize,
  inodesPerGroup,
} from './format.ts';
import type { Geometry } from './geometry.ts';

/** What identifies a filesystem; derived from the seed, so that equal inputs give equal images. */
export interface Identity {
  readonly uuid: Buffer;
  readonly hashSeed: Buffer;
  /** Up to 16 bytes */
  readonly label: string;
}

export interface SuperblockFields {
  readonly geometry: Geometry;
  readonly identity: Identity;
  readonly freeBlocks: number;
  readonly freeInodes: number;
  readonly journalBlockArea: Buffer;
  readonly journalBytes: number;
}

export const superblockSize = 1024;

/** Encodes the superblock as `group` carries it (Documentation/filesystems/ext4/super.rst). */
export function encodeSuperblock(fields: SuperblockFields, group: number): Buffer {
  const data = Buffer.alloc(superblockSize);
  writeSizes(data, fields);
  writeFeatures(data);
  data.writeUInt16LE(group, 0x5a);
  fields.identity.uuid.copy(data, 0x68);
  data.write(fields.identity.label, 0x78, 16, 'utf8');
  fields.identity.hashSeed.copy(data, 0xec);
  writeJournal(data, fields);
  data.writeUInt32LE(crc32c(0xffffffff, data.subarray(0, 0x3fc)), 0x3fc);
  return data;
}

function writeSizes(data: Buffer, { geometry, freeBlocks, freeInodes }: SuperblockFields): void {
  data.writeUInt32LE(geometry.groups * inodesPerGroup, 0x0);
  data.writeUInt32LE(geometry.blocks, 0x4);
  data.writeUInt32LE(freeBlocks, 0xc);
  data.writeUInt32LE(freeInodes, 0x10);
  // Sizes of block and cluster, as powers of two above 1 KiB
  data.writeUInt32LE(Math.log2(blockSize / 1024), 0x18);
  data.writeUInt32LE(Math.log2(blockSize / 1024), 0x1c);
  data.writeUInt32LE(blocksPerGroup, 0x20);
  data.writeUInt32LE(blocksPerGroup, 0x24);
  data.writeUInt32LE(inodesPerGroup, 0x28);
  data.writeUInt16LE(descriptorBlocks - geometry.usedDescriptorBlocks, 0xce);
}

function writeFeatures(data: Buffer): void {
  data.writeUInt16LE(0xef53, 0x38);
  // State: clean. On errors: continue. No check after a number of mounts.
  data.writeUInt16LE(1, 0x3a);
  data.writeUInt16LE(1, 0x3c);
  data.writeUInt16LE(0xffff, 0x36);
  data.writeUInt32LE(1, 0x4c);
  data.writeUInt32LE(inodeNumbers.lostAndFound, 0x54);
  data.writeUInt16LE(inodeSize, 0x58);
  data.writeUInt32LE(allOf(featureCompat), 0x5c);
  data.writeUInt32LE(allOf(featureIncompat), 0x60);
  data.writeUInt32LE(allOf(featureReadOnlyCompat), 0x64);
  // Directory hash: half MD4, of signed characters as on x86
  data.writeUInt8(1, 0xfc);
  data.writeUInt32LE(1, 0x160);
  // Mounted with user_xattr and acl
  data.writeUInt32LE(0xc, 0x100);
  // Extra inode fields, least and wanted: up to the creation time
  data.writeUInt16LE(32, 0x15c);
  data.writeUInt16LE(32, 0x15e);
  // 16 groups per flexible group, for the kernel's allocators
  data.writeUInt8(4, 0x174);
  // Checksums are CRC-32C
  data.writeUInt8(1, 0x175);
}

/** Inode and, as a backup for e2fsck, the block map and size of the journal. */
function writeJournal(data: Buffer, fields: SuperblockFields): void {
  data.writeUInt32LE(inodeNumbers.journal, 0xe0);
  data.writeUInt8(1, 0xfd);
  fields.journalBlockArea.copy(data, 0x10c);
  data.writeUInt32LE(Math.floor(fields.journalBytes / 2 ** 32), 0x10c + 60);
  data.writeUInt32LE(fields.journalBytes % 2 ** 32, 0x10c + 64);
}

function allOf(features: Readonly<Record<string, number>>): number {
  return Object.values(features).reduce((all, feature) => all | feature, 0);
}
