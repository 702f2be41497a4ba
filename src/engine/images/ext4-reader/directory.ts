import { DamagedFilesystem } from './damage.ts';

/** One name in a directory. */
export interface DirectoryEntry {
  /** Byte string */
  readonly name: string;
  readonly inode: number;
}

const headerSize = 8;

/**
 * Reads one block of a directory, `.` and `..` left out. Blocks of a hash tree and checksums look like unused
 * entries (Documentation/filesystems/ext4/directory.rst).
 */
export function parseDirectoryBlock(
  block: Buffer,
  { hasFileTypes, inode }: { readonly hasFileTypes: boolean; readonly inode: number },
): DirectoryEntry[] {
  const entries: DirectoryEntry[] = [];
  for (let at = 0; at < block.length;) {
    if (at + headerSize > block.length) throw damaged(inode);
    const number = block.readUInt32LE(at);
    const length = entryLength(block.readUInt16LE(at + 4), block.length);
    // Before there were types, names could have been longer: the upper half of their length is where the type is.
    const nameLength = hasFileTypes ? block.readUInt8(at + 6) : block.readUInt16LE(at + 6);
    if (length < headerSize || length % 4 !== 0 || at + length > block.length) throw damaged(inode);
    if (number !== 0) {
      if (nameLength === 0 || nameLength > 255 || headerSize + nameLength > length) throw damaged(inode);
      const name = block.toString('latin1', at + headerSize, at + headerSize + nameLength);
      if (/[/\0]/.test(name)) throw damaged(inode);
      if (name !== '.' && name !== '..') entries.push({ name, inode: number });
    }
    at += length;
  }
  return entries;
}

/** In blocks of 64 KiB the length of the whole block does not fit its field. */
function entryLength(stored: number, blockLength: number): number {
  return blockLength === 65_536 && (stored === 0 || stored === 65_535) ? 65_536 : stored;
}

function damaged(inode: number): DamagedFilesystem {
  return new DamagedFilesystem(`has a damaged directory (inode ${inode})`);
}
