import { crc32c } from './crc32c.ts';
import { blockSize } from './format.ts';

/** One name in a directory. */
export interface DirectoryEntry {
  /** Byte string of 1 to 255 bytes */
  readonly name: string;
  readonly inode: number;
  /** The entry number of `nodeTypes` */
  readonly type: number;
}

const headerSize = 8;
const tailSize = 12;
/** Bytes of a block that entries may use; the rest is the checksum, disguised as an unused entry. */
export const entrySpace = blockSize - tailSize;

/** Bytes an entry takes: header and name, padded to four. */
export function entrySize(nameLength: number): number {
  return (headerSize + nameLength + 3) & ~3;
}

/** Splits entries into groups that fit a block each, keeping their order. */
export function splitIntoBlocks(entries: readonly DirectoryEntry[]): DirectoryEntry[][] {
  const blocks: DirectoryEntry[][] = [[]];
  let used = 0;
  for (const entry of entries) {
    const size = entrySize(entry.name.length);
    if (used + size > entrySpace) {
      blocks.push([]);
      used = 0;
    }
    blocks.at(-1)?.push(entry);
    used += size;
  }
  return blocks;
}

/** Encodes a block of a directory into `data` (Documentation/filesystems/ext4/directory.rst). */
export function encodeLeafBlock(data: Buffer, entries: readonly DirectoryEntry[], inodeSeed: number): void {
  data.fill(0);
  writeEntries(data, entries, entrySpace);
  data.writeUInt16LE(tailSize, entrySpace + 4);
  data.writeUInt8(0xde, entrySpace + 7);
  data.writeUInt32LE(crc32c(inodeSeed, data.subarray(0, entrySpace)), entrySpace + 8);
}

/** Writes entries from the start of `data`; the last one owns what is left up to `end`. */
export function writeEntries(data: Buffer, entries: readonly DirectoryEntry[], end: number): void {
  let position = 0;
  entries.forEach((entry, index) => {
    const isLast = index === entries.length - 1;
    const size = isLast ? end - position : entrySize(entry.name.length);
    data.writeUInt32LE(entry.inode, position);
    data.writeUInt16LE(size, position + 4);
    data.writeUInt8(entry.name.length, position + 6);
    data.writeUInt8(entry.type, position + 7);
    data.write(entry.name, position + headerSize, 'latin1');
    position += size;
  });
  // An empty block is one unused entry.
  if (entries.length === 0) data.writeUInt16LE(end, 4);
}
