import type { BlockDevice } from './block-device.ts';
import { DamagedFilesystem } from './damage.ts';
import { inodeFlags, type Inode } from './inode.ts';
import type { Superblock } from './superblock.ts';

/** Blocks of a file that lie one after the other on the disk. */
export interface Run {
  readonly logical: number;
  readonly physical: number;
  readonly length: number;
}

const extentMagic = 0xf30a;
const recordSize = 12;
const maxDepth = 5;
/** A longer extent is allocated, but was never written: it reads as zeros. */
const maxWrittenLength = 32_768;

/** The blocks of a file in order; what is not among them is a hole. Blocks beyond its size are left out. */
export async function* blockRuns(
  device: BlockDevice,
  superblock: Superblock,
  inode: Inode,
): AsyncGenerator<Run> {
  const blocks = Math.ceil(inode.sizeBytes / superblock.blockSize);
  const runs =
    (inode.flags & inodeFlags.extents) !== 0
      ? extentRuns({ device, superblock, inode }, inode.blockArea, undefined)
      : indirectRuns({ device, superblock, inode }, blocks);
  let end = 0;
  for await (const run of runs) {
    if (run.logical < end) throw damaged(inode);
    end = run.logical + run.length;
    if (run.physical + run.length > superblock.blocks) throw damaged(inode);
    if (run.physical <= superblock.firstDataBlock) throw damaged(inode);
    const length = Math.min(run.length, blocks - run.logical);
    if (length <= 0) return;
    yield { ...run, length };
  }
}

interface Source {
  readonly device: BlockDevice;
  readonly superblock: Superblock;
  readonly inode: Inode;
}

/** One node of an extent tree and what is below it (Documentation/filesystems/ext4/ifork.rst). */
async function* extentRuns(
  source: Source,
  node: Buffer,
  expectedDepth: number | undefined,
): AsyncGenerator<Run> {
  const { inode } = source;
  const count = node.readUInt16LE(2);
  const depth = node.readUInt16LE(6);
  const isSound =
    node.readUInt16LE(0) === extentMagic &&
    recordSize * (1 + count) <= node.length &&
    (expectedDepth === undefined ? depth <= maxDepth : depth === expectedDepth && count > 0);
  if (!isSound) throw damaged(inode);
  for (let index = 1; index <= count; index++) {
    const at = index * recordSize;
    if (depth > 0) {
      const child = node.readUInt32LE(at + 4) + node.readUInt16LE(at + 8) * 2 ** 32;
      yield* extentRuns(source, await readBlock(source, child), depth - 1);
      continue;
    }
    const length = node.readUInt16LE(at + 4);
    const physical = node.readUInt32LE(at + 8) + node.readUInt16LE(at + 6) * 2 ** 32;
    if (length === 0) throw damaged(inode);
    if (length > maxWrittenLength) continue;
    yield { logical: node.readUInt32LE(at), physical, length };
  }
}

/** The block map of ext2: twelve blocks, then trees one, two and three levels deep. Zero is a hole. */
async function* indirectRuns(source: Source, blocks: number): AsyncGenerator<Run> {
  const perBlock = source.superblock.blockSize / 4;
  let logical = 0;
  for (let index = 0; index < 15 && logical < blocks; index++) {
    const depth = Math.max(0, index - 11);
    const pointer = source.inode.blockArea.readUInt32LE(index * 4);
    yield* indirectTree(source, pointer, { depth, logical, blocks });
    logical += perBlock ** depth;
  }
}

async function* indirectTree(
  source: Source,
  pointer: number,
  { depth, logical, blocks }: { depth: number; logical: number; blocks: number },
): AsyncGenerator<Run> {
  if (pointer === 0 || logical >= blocks) return;
  if (depth === 0) {
    source.device.charge(1);
    yield { logical, physical: pointer, length: 1 };
    return;
  }
  const table = await readBlock(source, pointer);
  const span = (table.length / 4) ** (depth - 1);
  for (let index = 0; index < table.length / 4; index++) {
    const child = table.readUInt32LE(index * 4);
    yield* indirectTree(source, child, { depth: depth - 1, logical: logical + index * span, blocks });
  }
}

async function readBlock({ device, superblock, inode }: Source, block: number): Promise<Buffer> {
  if (block <= superblock.firstDataBlock || block >= superblock.blocks) throw damaged(inode);
  return device.readMetadata(block * superblock.blockSize, superblock.blockSize);
}

function damaged(inode: Inode): DamagedFilesystem {
  return new DamagedFilesystem(`has a damaged block map (inode ${inode.number})`);
}
