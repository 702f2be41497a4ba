import { DamagedFilesystem } from './damage.ts';

export type InodeKind = 'file' | 'directory' | 'symlink' | 'char' | 'block' | 'fifo' | 'socket';

/** One inode as it is stored (Documentation/filesystems/ext4/inodes.rst). */
export interface Inode {
  readonly number: number;
  readonly kind: InodeKind;
  /** Permission bits, with setuid, setgid and sticky */
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
  readonly sizeBytes: number;
  readonly links: number;
  readonly flags: number;
  readonly mtime: { readonly seconds: number; readonly nanoseconds: number };
  /** The 60 bytes of `i_block` */
  readonly blockArea: Buffer;
  /** Block of its extended attributes, 0 if none */
  readonly xattrBlock: number;
  /** What follows the fixed fields: the extended attributes that fit there */
  readonly inlineXattrs: Buffer;
}

export const inodeFlags = { encrypted: 0x800, extents: 0x8_0000, inlineData: 0x1000_0000 } as const;

const kinds = new Map<number, InodeKind>([
  [0x1000, 'fifo'],
  [0x2000, 'char'],
  [0x4000, 'directory'],
  [0x6000, 'block'],
  [0x8000, 'file'],
  [0xa000, 'symlink'],
  [0xc000, 'socket'],
]);

const oldInodeSize = 128;

export function parseInode(slot: Buffer, number: number): Inode {
  const type = slot.readUInt16LE(0x0);
  const kind = kinds.get(type & 0xf000);
  const links = slot.readUInt16LE(0x1a);
  if (kind === undefined || links === 0)
    throw new DamagedFilesystem(`has a name for inode ${number}, which is not in use`);
  const extra = slot.length > oldInodeSize ? slot.readUInt16LE(0x80) : 0;
  if (extra % 4 !== 0 || oldInodeSize + extra > slot.length)
    throw new DamagedFilesystem(`has a damaged inode ${number}`);
  // Upper halves are where a size in the others is: only files grow that large.
  const upper = kind === 'file' ? slot.readUInt32LE(0x6c) : 0;
  return {
    number,
    kind,
    links,
    mode: type & 0o7777,
    uid: slot.readUInt16LE(0x2) + slot.readUInt16LE(0x78) * 65_536,
    gid: slot.readUInt16LE(0x18) + slot.readUInt16LE(0x7a) * 65_536,
    sizeBytes: fileSize(slot.readUInt32LE(0x4), upper, number),
    flags: slot.readUInt32LE(0x20),
    mtime: parseTime(slot.readInt32LE(0x10), extra >= 12 ? slot.readUInt32LE(0x88) : 0),
    blockArea: Buffer.from(slot.subarray(0x28, 0x64)),
    xattrBlock: slot.readUInt32LE(0x68) + slot.readUInt16LE(0x76) * 2 ** 32,
    inlineXattrs: Buffer.from(slot.subarray(slot.length > oldInodeSize ? oldInodeSize + extra : slot.length)),
  };
}

/** Device number of a character or block device: the old 8:8 form, else the new 12:20 one. */
export function deviceOf({ blockArea }: Inode): { major: number; minor: number } {
  const old = blockArea.readUInt32LE(0);
  if (old !== 0) return { major: (old >>> 8) & 0xff, minor: old & 0xff };
  const value = blockArea.readUInt32LE(4);
  return { major: (value >>> 8) & 0xfff, minor: (value & 0xff) | ((value >>> 12) & 0xfff00) };
}

function fileSize(low: number, high: number, number: number): number {
  const size = low + high * 2 ** 32;
  if (size <= 2 ** 44) return size;
  throw new DamagedFilesystem(`has a file (inode ${number}) larger than ext4 can hold`);
}

function parseTime(low: number, extra: number): Inode['mtime'] {
  const nanoseconds = extra >>> 2;
  return {
    seconds: low + (extra & 3) * 2 ** 32,
    nanoseconds: nanoseconds < 1_000_000_000 ? nanoseconds : 0,
  };
}
