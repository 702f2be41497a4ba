import { crc32c } from './crc32c.ts';
import { blockSize } from './format.ts';
import type { Extent, Extents } from './extent-table.ts';

const magic = 0xf30a;
const headerSize = 12;
const recordSize = 12;
/** Records that fit the 60 bytes in the inode, and those that fit a block with its checksum */
const recordsInInode = 4;
const recordsInBlock = Math.floor((blockSize - headerSize - 4) / recordSize);

export interface ExtentTree {
  /** The 60 bytes of `i_block` */
  readonly root: Buffer;
  /** How many there are below it */
  readonly blocks: number;
}

/** A block of the tree one level down, and where in the file what it tells of begins. */
interface IndexRecord {
  readonly logical: number;
  readonly block: number;
}

/**
 * Builds the extent tree of a file (Documentation/filesystems/ext4/ifork.rst). `writeBlock` finds a place for each
 * block below the inode, and returns it; the block is valid until then.
 * No run is longer than the 32768 blocks an extent can name, because no run
 * leaves its block group.
 */
export function writeExtentTree(
  extents: Extents,
  inodeSeed: number,
  writeBlock: (data: Buffer) => number,
): ExtentTree {
  const root = Buffer.alloc(headerSize + recordsInInode * recordSize);
  if (extents.length <= recordsInInode) {
    writeTreeNode(root, [...extents], { depth: 0, capacity: recordsInInode, write: writeLeafRecord });
    return { root, blocks: 0 };
  }
  let blocks = 0;
  /** Puts records into blocks of one level, and returns what tells of these. */
  const level = <Item extends { readonly logical: number }>(
    records: Iterable<Item>,
    depth: number,
    write: WriteRecord<Item>,
  ): IndexRecord[] => {
    const parents: IndexRecord[] = [];
    for (const children of inParts(records, recordsInBlock)) {
      const data = Buffer.alloc(blockSize);
      writeTreeNode(data, children, { depth, capacity: recordsInBlock, write });
      sealTreeBlock(data, inodeSeed);
      parents.push({ logical: children[0]?.logical ?? 0, block: writeBlock(data) });
      blocks++;
    }
    return parents;
  };
  let depth = 1;
  let records = level(extents, 0, writeLeafRecord);
  for (; records.length > recordsInInode; depth++) records = level(records, depth, writeIndexRecord);
  writeTreeNode(root, records, { depth, capacity: recordsInInode, write: writeIndexRecord });
  return { root, blocks };
}

/** How many blocks the tree of a file has below its inode. */
export function extentTreeBlocks(extents: number): number {
  let blocks = 0;
  for (let records = extents; records > recordsInInode;) {
    records = Math.ceil(records / recordsInBlock);
    blocks += records;
  }
  return blocks;
}

/** A file of a million extents is never an array of as many objects. */
function* inParts<Item>(items: Iterable<Item>, length: number): Generator<Item[]> {
  let part: Item[] = [];
  for (const item of items) {
    part.push(item);
    if (part.length < length) continue;
    yield part;
    part = [];
  }
  if (part.length > 0) yield part;
}

function sealTreeBlock(data: Buffer, inodeSeed: number): void {
  const tail = headerSize + recordsInBlock * recordSize;
  data.writeUInt32LE(crc32c(inodeSeed, data.subarray(0, tail)), tail);
}

/** Writes a record into its 12 bytes of zeros. */
type WriteRecord<Item> = (target: Buffer, at: number, item: Item) => void;

/** Records are written where they belong: a buffer for each was more to get and to collect than all else here. */
function writeTreeNode<Item>(
  target: Buffer,
  records: readonly Item[],
  {
    depth,
    capacity,
    write,
  }: { readonly depth: number; readonly capacity: number; readonly write: WriteRecord<Item> },
): void {
  target.writeUInt16LE(magic, 0);
  target.writeUInt16LE(records.length, 2);
  target.writeUInt16LE(capacity, 4);
  target.writeUInt16LE(depth, 6);
  records.forEach((record, index) => write(target, headerSize + index * recordSize, record));
}

function writeLeafRecord(target: Buffer, at: number, { logical, run }: Extent): void {
  target.writeUInt32LE(logical, at);
  target.writeUInt16LE(run.length, at + 4);
  target.writeUInt32LE(run.start, at + 8);
}

function writeIndexRecord(target: Buffer, at: number, { logical, block }: IndexRecord): void {
  target.writeUInt32LE(logical, at);
  target.writeUInt32LE(block, at + 4);
}
