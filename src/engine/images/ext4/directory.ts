import { crc32c } from './crc32c.ts';
import { blockSize } from './format.ts';

const headerSize = 8;
const tailSize = 12;
/** Bytes of a block that entries may use; the rest is the checksum, disguised as an unused entry. */
const entrySpace = blockSize - tailSize;

/** Bytes an entry takes: header and name, padded to four. */
export function entrySize(nameLength: number): number {
  return (headerSize + nameLength + 3) & ~3;
}

/** What directories take at most whose entries have so many bytes in all: less than an entry is left over in each block. */
export function mostDirectoryBytes(directories: number, entryBytes: number): number {
  return blockSize * (directories + Math.ceil(entryBytes / (entrySpace - entrySize(255) + 1)));
}

/** How many blocks entries with names of those lengths need, in that order. */
export function countBlocks(nameLengths: Iterable<number>): number {
  let blocks = 1;
  let used = 0;
  for (const length of nameLengths) {
    const size = entrySize(length);
    if (used + size > entrySpace) {
      blocks++;
      used = 0;
    }
    used += size;
  }
  return blocks;
}

/** A block of a directory, filled entry by entry (Documentation/filesystems/ext4/directory.rst). */
export class DirectoryBlock {
  readonly data = Buffer.alloc(blockSize);
  #used = 0;
  #last = 0;

  /** Empties it, for the next block. */
  clear(): void {
    this.data.fill(0);
    this.#used = 0;
    this.#last = 0;
  }

  hasRoomFor(nameLength: number): boolean {
    return this.#used + entrySize(nameLength) <= entrySpace;
  }

  /** Adds an entry of a type in `nodeTypes`, and returns where in `data` its name goes. */
  add(inode: number, type: number, nameLength: number): number {
    const { data } = this;
    const at = this.#used;
    const size = entrySize(nameLength);
    data.writeUInt32LE(inode, at);
    data.writeUInt16LE(size, at + 4);
    data.writeUInt8(nameLength, at + 6);
    data.writeUInt8(type, at + 7);
    this.#last = at;
    this.#used = at + size;
    return at + headerSize;
  }

  /** Gives what is left to the last entry, of which there must be one, and adds the checksum. */
  seal(inodeSeed: number): void {
    const { data } = this;
    data.writeUInt16LE(entrySpace - this.#last, this.#last + 4);
    data.writeUInt16LE(tailSize, entrySpace + 4);
    data.writeUInt8(0xde, entrySpace + 7);
    data.writeUInt32LE(crc32c(inodeSeed, data.subarray(0, entrySpace)), entrySpace + 8);
  }
}
