import type { BlockAllocator } from './block-allocator.ts';
import type { BlockFile } from './block-file.ts';
import { crc32c, crc32cOfNumber } from './crc32c.ts';
import { blockSize, groupDescriptorSize, groupFlags, inodesPerGroup } from './format.ts';
import { type Geometry, type GroupLayout, groupLayout } from './geometry.ts';
import type { BlockRun } from './run-list.ts';

export interface GroupUsage {
  readonly geometry: Geometry;
  readonly allocator: BlockAllocator;
  /** The highest inode number in use; all below it are too */
  readonly lastInode: number;
  /** Directories by group number */
  readonly directories: ReadonlyMap<number, number>;
  /** What all metadata checksums start from */
  readonly checksumSeed: number;
}

export interface GroupTable {
  /** The group descriptors, padded to whole blocks */
  readonly descriptors: Buffer;
  readonly freeBlocks: number;
  readonly freeInodes: number;
}

/**
 * Writes the bitmaps of the groups in use and encodes all descriptors
 * (Documentation/filesystems/ext4/group_descr.rst).
 *
 * Untouched groups are marked as uninitialised and have no bitmap on disk. All
 * inode tables count as zeroed, which a sparse file is, so the kernel's
 * background initialisation finds nothing to do.
 */
export async function writeGroups(file: BlockFile, usage: GroupUsage): Promise<GroupTable> {
  const { geometry } = usage;
  const descriptors = Buffer.alloc(geometry.usedDescriptorBlocks * blockSize);
  const freeRuns = new FreeRuns(usage.allocator.freeRuns);
  let freeBlocks = 0;
  let freeInodes = 0;
  for (let group = 0; group < geometry.groups; group++) {
    const layout = groupLayout(group);
    const blocks = blockState(layout, usage, freeRuns.takeBefore(layout.end));
    const inodes = inodeState(group, usage.lastInode);
    if (blocks.bitmap) file.put(layout.blockBitmap * blockSize, blocks.bitmap);
    if (inodes.bitmap) file.put(layout.inodeBitmap * blockSize, inodes.bitmap);
    const slot = descriptors.subarray(group * groupDescriptorSize, (group + 1) * groupDescriptorSize);
    encodeDescriptor(slot, { group, layout, blocks, inodes, usage });
    freeBlocks += blocks.free;
    freeInodes += inodes.free;
    await file.ready();
  }
  return { descriptors, freeBlocks, freeInodes };
}

/** Bitmap and free count of a group's blocks or inodes. Without a bitmap, the group is uninitialised. */
interface BitmapState {
  readonly bitmap: Buffer | undefined;
  readonly free: number;
}

function blockState(layout: GroupLayout, usage: GroupUsage, freeRuns: readonly BlockRun[]): BitmapState {
  const { geometry, allocator } = usage;
  const end = Math.min(layout.end, geometry.blocks);
  // The bitmap of the last group is always there, because its end may be padding.
  const isLast = layout.end >= geometry.blocks;
  if (allocator.end <= layout.firstData && !isLast)
    return { bitmap: undefined, free: end - layout.firstData };

  const usedEnd = Math.max(layout.firstData, Math.min(end, allocator.end));
  const bitmap = Buffer.alloc(blockSize);
  setBits(bitmap, 0, usedEnd - layout.start);
  setBits(bitmap, end - layout.start, blockSize * 8);
  let free = end - usedEnd;
  for (const run of freeRuns) {
    clearBits(bitmap, run.start - layout.start, run.length);
    free += run.length;
  }
  return { bitmap, free };
}

function inodeState(group: number, lastInode: number): BitmapState {
  const used = Math.min(Math.max(lastInode - group * inodesPerGroup, 0), inodesPerGroup);
  if (used === 0) return { bitmap: undefined, free: inodesPerGroup };
  const bitmap = Buffer.alloc(blockSize);
  setBits(bitmap, 0, used);
  setBits(bitmap, inodesPerGroup, blockSize * 8);
  return { bitmap, free: inodesPerGroup - used };
}

/** The runs that nothing uses, group by group. */
class FreeRuns {
  readonly #runs: Iterator<BlockRun>;
  #next: IteratorResult<BlockRun>;

  /** They ascend. */
  constructor(runs: Iterable<BlockRun>) {
    this.#runs = runs[Symbol.iterator]();
    this.#next = this.#runs.next();
  }

  /** Those before `end` that were not taken yet. */
  takeBefore(end: number): BlockRun[] {
    const taken: BlockRun[] = [];
    for (; !this.#next.done && this.#next.value.start < end; this.#next = this.#runs.next())
      taken.push(this.#next.value);
    return taken;
  }
}

function setBits(bitmap: Buffer, from: number, to: number): void {
  for (let bit = from; bit < to;) {
    if (bit % 8 === 0 && to - bit >= 8) {
      const bytes = Math.floor((to - bit) / 8);
      bitmap.fill(0xff, bit / 8, bit / 8 + bytes);
      bit += bytes * 8;
    } else {
      bitmap[bit >>> 3] = (bitmap[bit >>> 3] ?? 0) | (1 << (bit & 7));
      bit++;
    }
  }
}

function clearBits(bitmap: Buffer, from: number, count: number): void {
  for (let bit = from; bit < from + count; bit++) {
    bitmap[bit >>> 3] = (bitmap[bit >>> 3] ?? 0) & ~(1 << (bit & 7));
  }
}

interface Descriptor {
  readonly group: number;
  readonly layout: GroupLayout;
  readonly blocks: BitmapState;
  readonly inodes: BitmapState;
  readonly usage: GroupUsage;
}

function encodeDescriptor(slot: Buffer, { group, layout, blocks, inodes, usage }: Descriptor): void {
  const flags =
    groupFlags.inodeZeroed |
    (blocks.bitmap ? 0 : groupFlags.blockUninit) |
    (inodes.bitmap ? 0 : groupFlags.inodeUninit);
  slot.writeUInt32LE(layout.blockBitmap, 0x0);
  slot.writeUInt32LE(layout.inodeBitmap, 0x4);
  slot.writeUInt32LE(layout.inodeTable, 0x8);
  slot.writeUInt16LE(blocks.free, 0xc);
  slot.writeUInt16LE(inodes.free, 0xe);
  slot.writeUInt16LE(usage.directories.get(group) ?? 0, 0x10);
  slot.writeUInt16LE(flags, 0x12);
  slot.writeUInt16LE(bitmapChecksum(usage.checksumSeed, blocks.bitmap), 0x18);
  slot.writeUInt16LE(
    bitmapChecksum(usage.checksumSeed, inodes.bitmap?.subarray(0, inodesPerGroup / 8)),
    0x1a,
  );
  // Inodes at the end of the table that were never used: all that are free here.
  slot.writeUInt16LE(inodes.free, 0x1c);
  const checksum = crc32c(crc32cOfNumber(usage.checksumSeed, group), slot);
  slot.writeUInt16LE(checksum & 0xffff, 0x1e);
}

/** Descriptors of 32 bytes keep the lower half of a bitmap's checksum. */
function bitmapChecksum(seed: number, bitmap: Buffer | undefined): number {
  return bitmap ? crc32c(seed, bitmap) & 0xffff : 0;
}
