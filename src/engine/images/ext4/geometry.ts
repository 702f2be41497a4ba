import {
  blockSize,
  blocksPerGroup,
  descriptorBlocks,
  groupsPerDescriptorBlock,
  inodesPerGroup,
  inodeTableBlocks,
  maxGroups,
} from './format.ts';

/**
 * Where a block group keeps its metadata.
 *
 * Every group holds its own, and the space for descriptors is constant, so the
 * place of everything follows from the group's number alone. That is what lets
 * file contents be written before the size of the filesystem is known.
 */
export interface GroupLayout {
  readonly start: number;
  /** The group begins with a copy of superblock and descriptors (sparse_super) */
  readonly hasBackup: boolean;
  readonly blockBitmap: number;
  readonly inodeBitmap: number;
  readonly inodeTable: number;
  /** First block free for contents */
  readonly firstData: number;
  readonly end: number;
}

export function groupLayout(group: number): GroupLayout {
  const start = group * blocksPerGroup;
  const hasBackup = hasSuperblock(group);
  const blockBitmap = start + (hasBackup ? 1 + descriptorBlocks : 0);
  return {
    start,
    hasBackup,
    blockBitmap,
    inodeBitmap: blockBitmap + 1,
    inodeTable: blockBitmap + 2,
    firstData: blockBitmap + 2 + inodeTableBlocks,
    end: start + blocksPerGroup,
  };
}

/** sparse_super: groups 0 and 1 and the powers of 3, 5 and 7 carry the superblock. */
function hasSuperblock(group: number): boolean {
  return group <= 1 || [3, 5, 7].some((base) => isPowerOf(group, base));
}

function isPowerOf(value: number, base: number): boolean {
  let power = base;
  while (power < value) power *= base;
  return power === value;
}

/** The size of the filesystem, once it is decided. */
export interface Geometry {
  readonly blocks: number;
  readonly groups: number;
  /** Descriptor blocks in use; the rest of `descriptorBlocks` is reserved for growth */
  readonly usedDescriptorBlocks: number;
}

export function geometryOf(blocks: number): Geometry {
  const groups = Math.ceil(blocks / blocksPerGroup);
  return { blocks, groups, usedDescriptorBlocks: Math.ceil(groups / groupsPerDescriptorBlock) };
}

/** What the filesystem has to hold. */
export interface Demand {
  readonly requestedBytes: number;
  /** Bytes the contents take, directories and the journal included */
  readonly contentBytes: number;
  readonly inodes: number;
  /** First block past everything already placed */
  readonly endBlock: number;
}

const slackBytes = 64 * 1024 * 1024;
const growthStepBlocks = (256 * 1024 * 1024) / blockSize;

/**
 * Decides the number of blocks: the requested size if the contents leave room
 * to work in, otherwise the next 256 MiB step that does. Undefined when no
 * filesystem of ours is large enough.
 */
export function planBlocks(demand: Demand): number | undefined {
  const requested = withoutTinyLastGroup(Math.floor(demand.requestedBytes / blockSize));
  const needed = Math.max(
    demand.endBlock,
    Math.ceil((demand.contentBytes * 1.3 + slackBytes) / blockSize),
    Math.ceil((demand.inodes * 1.3) / inodesPerGroup) * blocksPerGroup,
  );
  const planned = requested >= needed ? requested : Math.ceil(needed / growthStepBlocks) * growthStepBlocks;
  return planned <= maxGroups * blocksPerGroup ? planned : undefined;
}

/** A last group that cannot hold its own metadata is left out, as mke2fs does. */
function withoutTinyLastGroup(blocks: number): number {
  const tail = blocks % blocksPerGroup;
  const last = groupLayout(Math.floor(blocks / blocksPerGroup));
  return tail < last.firstData - last.start + 64 ? blocks - tail : blocks;
}
