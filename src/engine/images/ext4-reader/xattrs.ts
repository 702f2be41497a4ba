import { DamagedFilesystem } from './damage.ts';

const magic = 0xea020000;
const blockHeaderSize = 32;
const entryHeaderSize = 16;

/** What ext4 stores in place of a name's beginning (fs/ext4/xattr.h). */
const prefixes = new Map([
  [1, 'user.'],
  [2, 'system.posix_acl_access'],
  [3, 'system.posix_acl_default'],
  [4, 'trusted.'],
  [6, 'security.'],
  [7, 'system.'],
]);

/** One extended attribute; its value may be in an inode of its own. */
export interface StoredXattr {
  /** Byte string with its prefix */
  readonly name: string;
  readonly value: Buffer | { readonly inode: number; readonly sizeBytes: number };
}

/** Where the rest of a small file is that is kept in its inode. */
export const inlineDataXattr = 'system.data';

/** Reads what follows the fixed fields of an inode (Documentation/filesystems/ext4/attributes.rst). */
export function parseInlineXattrs(area: Buffer, inode: number): StoredXattr[] {
  if (area.length < 4 || area.readUInt32LE(0) !== magic) return [];
  // Value offsets count from the first entry.
  return parseEntries(area.subarray(4), 0, inode);
}

/** Reads a block of attributes. */
export function parseXattrBlock(block: Buffer, inode: number): StoredXattr[] {
  if (block.readUInt32LE(0) !== magic || block.readUInt32LE(8) !== 1) throw damaged(inode);
  return parseEntries(block, blockHeaderSize, inode);
}

function parseEntries(area: Buffer, start: number, inode: number): StoredXattr[] {
  const found: StoredXattr[] = [];
  for (let at = start; at + 4 <= area.length && area.readUInt32LE(at) !== 0;) {
    if (at + entryHeaderSize > area.length) throw damaged(inode);
    const nameLength = area.readUInt8(at);
    const prefix = prefixes.get(area.readUInt8(at + 1));
    const valueInode = area.readUInt32LE(at + 4);
    const size = area.readUInt32LE(at + 8);
    const offset = area.readUInt16LE(at + 2);
    const end = at + entryHeaderSize + nameLength;
    if (end > area.length) throw damaged(inode);
    const name = area.toString('latin1', at + entryHeaderSize, end);
    at = (end + 3) & ~3;
    if (valueInode === 0 && offset + size > area.length) throw damaged(inode);
    // Kinds that only the kernel that wrote them would understand.
    if (prefix === undefined) continue;
    const value =
      valueInode === 0
        ? Buffer.from(area.subarray(offset, offset + size))
        : { inode: valueInode, sizeBytes: size };
    found.push({ name: prefix + name, value });
  }
  return found;
}

/** Tags of ACL entries that name a user or a group */
const namedTags: readonly number[] = [0x02, 0x08];

/** Turns a POSIX ACL as ext4 stores it into the form of the xattr system calls; undefined if it is not one. */
export function decodeAcl(stored: Buffer): Buffer | undefined {
  if (stored.length < 4 || stored.readUInt32LE(0) !== 1) return undefined;
  const parts: Buffer[] = [Buffer.from([2, 0, 0, 0])];
  for (let at = 4; at < stored.length;) {
    if (at + 4 > stored.length) return undefined;
    const isNamed = namedTags.includes(stored.readUInt16LE(at));
    const length = isNamed ? 8 : 4;
    if (at + length > stored.length) return undefined;
    const id = isNamed ? stored.subarray(at + 4, at + 8) : Buffer.from([0xff, 0xff, 0xff, 0xff]);
    parts.push(stored.subarray(at, at + 4), id);
    at += length;
  }
  return Buffer.concat(parts);
}

function damaged(inode: number): DamagedFilesystem {
  return new DamagedFilesystem(`has damaged extended attributes (inode ${inode})`);
}
