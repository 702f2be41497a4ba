/**
 * The constants of ext4 on disk, for the one shape of filesystem we write.
 *
 * Source: the kernel's Documentation/filesystems/ext4 and fs/ext4/ext4.h.
 * Everything on disk is little-endian, except the journal.
 */
export const blockSize = 4096;
export const inodeSize = 256;
export const groupDescriptorSize = 32;
/** One bitmap block's worth of blocks: 128 MiB */
export const blocksPerGroup = blockSize * 8;
/** One inode per 16 KiB of disk, so that a grown disk and an npm tree do not run out of inodes before space */
export const inodesPerGroup = 8192;
export const inodeTableBlocks = (inodesPerGroup * inodeSize) / blockSize;

/** Blocks kept for group descriptors, in use or reserved for online growth. 256 of them describe 4 TiB. */
export const descriptorBlocks = 256;
export const groupsPerDescriptorBlock = blockSize / groupDescriptorSize;
export const maxGroups = descriptorBlocks * groupsPerDescriptorBlock;
/** As large as our filesystems can become */
export const maxFilesystemBytes = maxGroups * blocksPerGroup * blockSize;

export const inodeNumbers = { root: 2, resize: 7, journal: 8, lostAndFound: 11, firstFree: 12 } as const;

export const featureCompat = {
  journal: 0x4,
  extendedAttributes: 0x8,
  resizeInode: 0x10,
  dirIndex: 0x20,
} as const;
export const featureIncompat = { fileType: 0x2, extents: 0x40, flexGroups: 0x200 } as const;
export const featureReadOnlyCompat = {
  sparseSuper: 0x1,
  largeFile: 0x2,
  hugeFile: 0x8,
  dirNlink: 0x20,
  extraIsize: 0x40,
  metadataChecksums: 0x400,
} as const;

export const groupFlags = { inodeUninit: 0x1, blockUninit: 0x2, inodeZeroed: 0x4 } as const;
export const inodeFlags = { index: 0x1000, extents: 0x80000 } as const;

/** The type bits of an inode's mode (as in stat) and of a directory entry (ext4's own numbers). */
export const nodeTypes = {
  fifo: { mode: 0x1000, entry: 5 },
  char: { mode: 0x2000, entry: 3 },
  directory: { mode: 0x4000, entry: 2 },
  block: { mode: 0x6000, entry: 4 },
  file: { mode: 0x8000, entry: 1 },
  symlink: { mode: 0xa000, entry: 7 },
} as const;

/** Beyond this many links the kernel refuses another one; a directory's count then reads 1, for “many”. */
export const maxLinks = 65_000;
/** Longest target of a symlink that is kept in the inode itself, with its final zero */
export const inlineTargetLength = 59;
/** The kernel's NAME_MAX and the longest symlink target that fits a block with its final zero */
export const maxNameLength = 255;
export const maxSymlinkLength = blockSize - 1;
