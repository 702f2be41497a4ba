import { DamagedFilesystem } from './damage.ts';

/** What reading needs to know of a filesystem (Documentation/filesystems/ext4/super.rst). */
export interface Superblock {
  readonly blockSize: number;
  readonly blocks: number;
  readonly inodes: number;
  readonly firstDataBlock: number;
  readonly blocksPerGroup: number;
  readonly inodesPerGroup: number;
  readonly inodeSize: number;
  readonly descriptorSize: number;
  readonly firstInode: number;
  readonly groups: number;
  readonly hasFileTypes: boolean;
  readonly hasMetaGroups: boolean;
  readonly firstMetaGroup: number;
  /** Groups that begin with a copy of the superblock */
  readonly hasSuperblock: (group: number) => boolean;
}

export const superblockOffset = 1024;
export const superblockBytes = 1024;

const incompat = {
  fileType: 0x2,
  recover: 0x4,
  metaGroups: 0x10,
  extents: 0x40,
  wide: 0x80,
  multiMount: 0x100,
  flexGroups: 0x200,
  eaInode: 0x400,
  checksumSeed: 0x2000,
  largeDirectories: 0x4000,
  inlineData: 0x8000,
  encrypt: 0x1_0000,
  casefold: 0x2_0000,
} as const;

const knownIncompat = Object.values(incompat).reduce((all, bit) => all | bit, 0);

/** Reads a superblock, and refuses what is not a sound, cleanly unmounted ext2, ext3 or ext4. */
export function parseSuperblock(data: Buffer): Superblock {
  if (data.readUInt16LE(0x38) !== 0xef53) throw new DamagedFilesystem('is not ext4');
  const features = data.readUInt32LE(0x60);
  const unknown = features & ~knownIncompat;
  if (unknown !== 0)
    throw new DamagedFilesystem(`has features that cannot be read: 0x${(unknown >>> 0).toString(16)}`);
  if ((features & incompat.recover) !== 0 || (data.readUInt16LE(0x3a) & 1) === 0) {
    throw new DamagedFilesystem('was not unmounted cleanly');
  }
  const isWide = (features & incompat.wide) !== 0;
  const revision = data.readUInt32LE(0x4c);
  const blockSize = 1024 * 2 ** Math.min(data.readUInt32LE(0x18), 31);
  const blocks = data.readUInt32LE(0x4) + (isWide ? data.readUInt32LE(0x150) * 2 ** 32 : 0);
  const firstDataBlock = data.readUInt32LE(0x14);
  const blocksPerGroup = data.readUInt32LE(0x20);
  const parsed = {
    blockSize,
    blocks,
    firstDataBlock,
    blocksPerGroup,
    inodes: data.readUInt32LE(0x0),
    inodesPerGroup: data.readUInt32LE(0x28),
    inodeSize: revision === 0 ? 128 : data.readUInt16LE(0x58),
    firstInode: revision === 0 ? 11 : data.readUInt32LE(0x54),
    descriptorSize: isWide ? data.readUInt16LE(0xfe) : 32,
    groups: Math.ceil((blocks - firstDataBlock) / blocksPerGroup),
    hasFileTypes: (features & incompat.fileType) !== 0,
    hasMetaGroups: (features & incompat.metaGroups) !== 0,
    firstMetaGroup: data.readUInt32LE(0x104),
    hasSuperblock: superblockCopies(data),
  };
  check(parsed);
  return parsed;
}

function check(parsed: Superblock): void {
  const { blockSize, inodeSize, descriptorSize, inodesPerGroup, blocksPerGroup } = parsed;
  const isSound =
    blockSize <= 65_536 &&
    isPowerOfTwo(inodeSize) &&
    inodeSize >= 128 &&
    inodeSize <= blockSize &&
    isPowerOfTwo(descriptorSize) &&
    descriptorSize >= 32 &&
    descriptorSize <= blockSize &&
    inodesPerGroup >= 1 &&
    inodesPerGroup <= blockSize * 8 &&
    blocksPerGroup >= 1 &&
    parsed.firstDataBlock < parsed.blocks &&
    parsed.inodes <= parsed.groups * inodesPerGroup &&
    parsed.inodes >= parsed.firstInode;
  if (!isSound) throw new DamagedFilesystem('has a superblock that contradicts itself');
}

function superblockCopies(data: Buffer): (group: number) => boolean {
  const isSparse2 = (data.readUInt32LE(0x5c) & 0x200) !== 0;
  if (isSparse2) {
    const backups = [data.readUInt32LE(0x24c), data.readUInt32LE(0x250)];
    return (group) => group === 0 || backups.includes(group);
  }
  const isSparse = (data.readUInt32LE(0x64) & 0x1) !== 0;
  return (group) => !isSparse || group <= 1 || [3, 5, 7].some((base) => isPowerOf(group, base));
}

function isPowerOf(value: number, base: number): boolean {
  let power = base;
  while (power < value) power *= base;
  return power === value;
}

function isPowerOfTwo(value: number): boolean {
  return value > 0 && (value & (value - 1)) === 0;
}
