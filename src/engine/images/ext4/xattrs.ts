import { crc32c, crc32cOfNumber } from './crc32c.ts';
import { blockSize, inodeSize } from './format.ts';
import { inlineXattrOffset } from './inode.ts';
import { encodeAcl } from './acl.ts';

const magic = 0xea020000;
const blockHeaderSize = 32;
const entryHeaderSize = 16;

/** The number ext4 stores in place of a name's beginning (fs/ext4/xattr.h); a whole name has nothing left. */
const prefixes = [
  { prefix: 'user.', index: 1 },
  { prefix: 'system.posix_acl_access', index: 2 },
  { prefix: 'system.posix_acl_default', index: 3 },
  { prefix: 'trusted.', index: 4 },
  { prefix: 'security.', index: 6 },
] as const;

interface StoredXattr {
  readonly index: number;
  /** Byte string without the prefix */
  readonly name: string;
  readonly value: Buffer;
}

/** What could not be stored, in words that follow the file's name. */
export class XattrsRefused extends Error {}

/** The two places for xattrs. At most one is filled: everything goes where it fits. */
export interface EncodedXattrs {
  readonly inline: Buffer | undefined;
  /** A whole block; its checksum is added by `sealXattrBlock` */
  readonly block: Buffer | undefined;
}

/** Whether Linux can keep an xattr of that name on ext4. Others (`com.apple.…`) are dropped, as docker does. */
export function isStorableXattr(name: string): boolean {
  return prefixes.some(({ prefix, index }) =>
    index === 2 || index === 3 ? name === prefix : name.startsWith(prefix) && name.length > prefix.length,
  );
}

/** Encodes xattrs (Documentation/filesystems/ext4/attributes.rst). Throws `XattrsRefused` beyond one block. */
export function encodeXattrs(xattrs: ReadonlyMap<string, Buffer> | undefined): EncodedXattrs {
  if (!xattrs || xattrs.size === 0) return { inline: undefined, block: undefined };
  const stored = [...xattrs].map(([name, value]) => storedXattr(name, value)).sort(compareStored);

  const inline = Buffer.alloc(inodeSize - inlineXattrOffset);
  inline.writeUInt32LE(magic, 0);
  // In the inode, value offsets count from the first entry; in a block, from its start.
  if (placeEntries(inline.subarray(4), 0, stored)) return { inline, block: undefined };

  const block = Buffer.alloc(blockSize);
  if (!placeEntries(block, blockHeaderSize, stored)) {
    throw new XattrsRefused(`has extended attributes of more than ${blockSize} bytes`);
  }
  block.writeUInt32LE(magic, 0x0);
  // One user, one block
  block.writeUInt32LE(1, 0x4);
  block.writeUInt32LE(1, 0x8);
  block.writeUInt32LE(blockHash(stored), 0xc);
  return { inline: undefined, block };
}

/** Whether they take a block besides the inode. */
export function needXattrBlock(xattrs: ReadonlyMap<string, Buffer>): boolean {
  const stored = [...xattrs].map(([name, value]) => storedXattr(name, value));
  return !haveRoom(stored, inodeSize - inlineXattrOffset - 4);
}

/** Adds the checksum of an xattr block, which depends on where the block is. */
export function sealXattrBlock(data: Buffer, block: number, filesystemSeed: number): void {
  const seed = crc32cOfNumber(crc32cOfNumber(filesystemSeed, block), 0);
  data.writeUInt32LE(crc32c(seed, data), 0x10);
}

function storedXattr(name: string, value: Buffer): StoredXattr {
  const known = prefixes.find(({ prefix }) => name.startsWith(prefix));
  if (!known) throw new XattrsRefused(`has the unknown extended attribute "${name}"`);
  const rest = name.slice(known.prefix.length);
  if (rest.length > 255)
    throw new XattrsRefused('has an extended attribute with a name of more than 255 bytes');
  if (known.index !== 2 && known.index !== 3) return { index: known.index, name: rest, value };
  const acl = encodeAcl(value);
  if (!acl) throw new XattrsRefused('has a POSIX ACL that cannot be read');
  return { index: known.index, name: rest, value: acl };
}

/** The order the kernel searches a block in: prefix, length, bytes. */
function compareStored(a: StoredXattr, b: StoredXattr): number {
  if (a.index !== b.index) return a.index - b.index;
  if (a.name.length !== b.name.length) return a.name.length - b.name.length;
  return a.name < b.name ? -1 : 1;
}

/** Entries grow from `start`, values from the end; false if they would meet. */
function placeEntries(area: Buffer, start: number, stored: readonly StoredXattr[]): boolean {
  if (!haveRoom(stored, area.length - start)) return false;

  let entry = start;
  let valueEnd = area.length;
  for (const xattr of stored) {
    valueEnd -= pad4(xattr.value.length);
    xattr.value.copy(area, valueEnd);
    area.writeUInt8(xattr.name.length, entry);
    area.writeUInt8(xattr.index, entry + 1);
    area.writeUInt16LE(xattr.value.length === 0 ? 0 : valueEnd, entry + 2);
    area.writeUInt32LE(xattr.value.length, entry + 8);
    area.writeUInt32LE(entryHash(xattr), entry + 12);
    area.write(xattr.name, entry + entryHeaderSize, 'latin1');
    entry += pad4(entryHeaderSize + xattr.name.length);
  }
  return true;
}

function haveRoom(stored: readonly StoredXattr[], bytes: number): boolean {
  const size = ({ name, value }: StoredXattr): number =>
    pad4(entryHeaderSize + name.length) + pad4(value.length);
  // Four zeros end the entries.
  return stored.reduce((sum, xattr) => sum + size(xattr), 4) <= bytes;
}

function pad4(length: number): number {
  return (length + 3) & ~3;
}

/** `ext4_xattr_hash_entry` of the kernel, with its unsigned characters. */
function entryHash(xattr: StoredXattr): number {
  let hash = 0;
  for (let index = 0; index < xattr.name.length; index++) {
    hash = ((hash << 5) | (hash >>> 27)) ^ xattr.name.charCodeAt(index);
  }
  const padded = Buffer.alloc(pad4(xattr.value.length));
  xattr.value.copy(padded);
  for (let offset = 0; offset < padded.length; offset += 4) {
    hash = ((hash << 16) | (hash >>> 16)) ^ padded.readUInt32LE(offset);
  }
  return hash >>> 0;
}

/** `ext4_xattr_rehash` of the kernel: lets it share equal blocks. */
function blockHash(stored: readonly StoredXattr[]): number {
  return stored.reduce((hash, xattr) => (((hash << 16) | (hash >>> 16)) ^ entryHash(xattr)) >>> 0, 0);
}
