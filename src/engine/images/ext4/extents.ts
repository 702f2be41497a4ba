import { crc32c } from './crc32c.ts';
import { blockSize } from './format.ts';
import type { Extent } from './nodes.ts';

const magic = 0xf30a;
const headerSize = 12;
const recordSize = 12;
/** Records that fit the 60 bytes in the inode, and those that fit a block with its checksum */
const recordsInInode = 4;
const recordsInBlock = Math.floor((blockSize - headerSize - 4) / recordSize);

/** A block of the tree below the inode. */
export interface TreeBlock {
  readonly block: number;
  readonly data: Buffer;
}

export interface ExtentTree {
  /** The 60 bytes of `i_block` */
  readonly root: Buffer;
  readonly blocks: readonly TreeBlock[];
}

/** One record of any level: where it begins in the file, and its 12 bytes. */
interface TreeRecord {
  readonly logical: number;
  readonly bytes: Buffer;
}

/**
 * Builds the extent tree of a file (Documentation/filesystems/ext4/ifork.rst).
 * No run is longer than the 32768 blocks an extent can name, because no run
 * leaves its block group.
 */
export function buildExtentTree(
  extents: readonly Extent[],
  inodeSeed: number,
  allocateBlock: () => number,
): ExtentTree {
  let records = extents.map(leafRecord);
  const blocks: TreeBlock[] = [];
  let depth = 0;
  for (; records.length > recordsInInode; depth++) {
    const parents: TreeRecord[] = [];
    for (let from = 0; from < records.length; from += recordsInBlock) {
      const block = allocateBlock();
      const children = records.slice(from, from + recordsInBlock);
      blocks.push({ block, data: treeBlock(children, depth, inodeSeed) });
      parents.push(indexRecord(children[0]?.logical ?? 0, block));
    }
    records = parents;
  }
  const root = Buffer.alloc(headerSize + recordsInInode * recordSize);
  writeNode(root, records, depth, recordsInInode);
  return { root, blocks };
}

function treeBlock(records: readonly TreeRecord[], depth: number, inodeSeed: number): Buffer {
  const data = Buffer.alloc(blockSize);
  writeNode(data, records, depth, recordsInBlock);
  const tail = headerSize + recordsInBlock * recordSize;
  data.writeUInt32LE(crc32c(inodeSeed, data.subarray(0, tail)), tail);
  return data;
}

function writeNode(target: Buffer, records: readonly TreeRecord[], depth: number, capacity: number): void {
  target.writeUInt16LE(magic, 0);
  target.writeUInt16LE(records.length, 2);
  target.writeUInt16LE(capacity, 4);
  target.writeUInt16LE(depth, 6);
  records.forEach((record, index) => record.bytes.copy(target, headerSize + index * recordSize));
}

function leafRecord(extent: Extent): TreeRecord {
  const bytes = Buffer.alloc(recordSize);
  bytes.writeUInt32LE(extent.logical, 0);
  bytes.writeUInt16LE(extent.run.length, 4);
  bytes.writeUInt32LE(extent.run.start, 8);
  return { logical: extent.logical, bytes };
}

function indexRecord(logical: number, block: number): TreeRecord {
  const bytes = Buffer.alloc(recordSize);
  bytes.writeUInt32LE(logical, 0);
  bytes.writeUInt32LE(block, 4);
  return { logical, bytes };
}
