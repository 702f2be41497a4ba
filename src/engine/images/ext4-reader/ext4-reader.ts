import { Turns } from '../ext4/turns.ts';
import { BlockDevice } from './block-device.ts';
import { blockRuns } from './block-map.ts';
import { DamagedFilesystem } from './damage.ts';
import { parseDirectoryBlock, type DirectoryEntry } from './directory.ts';
import { groupDescriptor } from './group-descriptor.ts';
import { inodeFlags, parseInode, type Inode } from './inode.ts';
import { parseSuperblock, superblockBytes, superblockOffset, type Superblock } from './superblock.ts';
import {
  decodeAcl,
  inlineDataXattr,
  parseInlineXattrs,
  parseXattrBlock,
  type StoredXattr,
} from './xattrs.ts';

export const rootInode = 2;
const bytesPerRead = 1024 * 1024;
const maxXattrBytes = 65_536;
const maxSymlinkBytes = 4096;
/** More than a million of the longest names take */
const maxDirectoryBytes = 512 * 1024 * 1024;
const zeros = Buffer.alloc(bytesPerRead);

/**
 * Reads an ext2, ext3 or ext4 filesystem in a file, without mounting it: the kernel never sees it.
 *
 * Whatever the file holds, reading ends: in data, or in `DamagedFilesystem`. Memory is bounded by what is asked for
 * at once (one file's attributes, a piece of its contents). A reader reads about as much as the filesystem holds before
 * it takes it for a trap; for another pass, open another. Others get their turns meanwhile, also where nothing has to
 * be waited for.
 */
export class Ext4Reader {
  readonly superblock: Superblock;
  readonly #device: BlockDevice;

  private constructor(device: BlockDevice, superblock: Superblock) {
    this.#device = device;
    this.superblock = superblock;
  }

  /** `budgetBytes`: what it may read in all, where that is less than the whole filesystem. */
  static async open(path: string, budgetBytes = Infinity): Promise<Ext4Reader> {
    const device = await BlockDevice.open(path, budgetBytes);
    try {
      if (device.sizeBytes < superblockOffset + superblockBytes) throw new DamagedFilesystem('is not ext4');
      const superblock = parseSuperblock(await device.read(superblockOffset, superblockBytes));
      if (superblock.blocks * superblock.blockSize > device.sizeBytes)
        throw new DamagedFilesystem('is cut off: its file is shorter than it says');
      return new Ext4Reader(device, superblock);
    } catch (error) {
      await device.close();
      throw error;
    }
  }

  get sizeBytes(): number {
    return this.#device.sizeBytes;
  }

  close(): Promise<void> {
    return this.#device.close();
  }

  async inode(number: number): Promise<Inode> {
    const { inodes, inodesPerGroup, inodeSize, blockSize } = this.superblock;
    const isReserved = number < this.superblock.firstInode && number !== rootInode;
    if (number > inodes || number < 1 || isReserved)
      throw new DamagedFilesystem(`has a name for inode ${number}, which it does not have`);
    const table = await this.#inodeTable(Math.floor((number - 1) / inodesPerGroup));
    const offset = table * blockSize + ((number - 1) % inodesPerGroup) * inodeSize;
    return parseInode(await this.#device.readMetadata(offset, inodeSize), number);
  }

  /** Names in a directory as they lie there, `.` and `..` left out, a block's at a time. */
  async *names(inode: Inode): AsyncGenerator<readonly DirectoryEntry[]> {
    const options = { hasFileTypes: this.superblock.hasFileTypes, inode: inode.number };
    if ((inode.flags & inodeFlags.inlineData) !== 0) {
      const data = await this.#inlineData(inode);
      // The parent's number comes first; what does not fit the inode begins anew behind it.
      yield parseDirectoryBlock(data.subarray(4, 60), options);
      yield parseDirectoryBlock(data.subarray(60), options);
      return;
    }
    const turns = new Turns();
    for await (const block of this.#directoryBlocks(inode)) {
      yield parseDirectoryBlock(block, options);
      if (turns.isDue) await turns.share();
    }
  }

  async *#directoryBlocks(inode: Inode): AsyncGenerator<Buffer> {
    if (inode.sizeBytes > maxDirectoryBytes)
      throw new DamagedFilesystem(`has a directory (inode ${inode.number}) of ${inode.sizeBytes} bytes`);
    const { blockSize } = this.superblock;
    // One block that a directory has a million times would be a million blocks of names.
    const seen = new Set<number>();
    for await (const run of blockRuns(this.#device, this.superblock, inode)) {
      for (let block = run.physical; block < run.physical + run.length; block++) {
        if (seen.has(block))
          throw new DamagedFilesystem(
            `has a directory (inode ${inode.number}) with a block that it has twice`,
          );
        seen.add(block);
        yield await this.#device.readMetadata(block * blockSize, blockSize);
      }
    }
  }

  /** The contents of a file, holes as zeros, in pieces of at most 1 MiB. */
  async *contents(inode: Inode): AsyncGenerator<Buffer> {
    this.#refuseEncrypted(inode);
    if ((inode.flags & inodeFlags.inlineData) !== 0) {
      const data = await this.#inlineData(inode);
      if (data.length < inode.sizeBytes)
        throw new DamagedFilesystem(`has a file (inode ${inode.number}) cut off`);
      yield data.subarray(0, inode.sizeBytes);
      return;
    }
    const { blockSize } = this.superblock;
    let position = 0;
    for await (const run of blockRuns(this.#device, this.superblock, inode)) {
      const start = run.logical * blockSize;
      yield* hole(start - position);
      const end = Math.min(start + run.length * blockSize, inode.sizeBytes);
      for (position = start; position < end;) {
        const length = Math.min(bytesPerRead, end - position);
        yield await this.#device.read(run.physical * blockSize + (position - start), length);
        position += length;
      }
    }
    yield* hole(inode.sizeBytes - position);
  }

  /** Where a symlink leads, as a byte string. */
  async target(inode: Inode): Promise<string> {
    const { sizeBytes, flags, blockArea } = inode;
    if (sizeBytes === 0 || sizeBytes > maxSymlinkBytes)
      throw new DamagedFilesystem(`has a damaged symlink (inode ${inode.number})`);
    const isFast = sizeBytes < 60 && (flags & (inodeFlags.extents | inodeFlags.inlineData)) === 0;
    let text = '';
    if (isFast) {
      this.#refuseEncrypted(inode);
      text = blockArea.toString('latin1', 0, sizeBytes);
    } else for await (const piece of this.contents(inode)) text += piece.toString('latin1');
    if (text.includes('\0')) throw new DamagedFilesystem(`has a damaged symlink (inode ${inode.number})`);
    return text;
  }

  /** Extended attributes by name, ACLs in the form of the system calls. */
  async xattrs(inode: Inode): Promise<Map<string, Buffer>> {
    const found = new Map<string, Buffer>();
    for (const xattr of await this.#storedXattrs(inode)) {
      if (xattr.name === inlineDataXattr) continue;
      const value = await this.#xattrValue(xattr);
      const isAcl = xattr.name.startsWith('system.posix_acl_');
      const usable = isAcl ? decodeAcl(value) : value;
      if (usable) found.set(xattr.name, usable);
    }
    return found;
  }

  async #storedXattrs(inode: Inode): Promise<StoredXattr[]> {
    const { blockSize, blocks } = this.superblock;
    const stored = parseInlineXattrs(inode.inlineXattrs, inode.number);
    if (inode.xattrBlock === 0) return stored;
    if (inode.xattrBlock >= blocks) throw new DamagedFilesystem('points beyond its end');
    const block = await this.#device.readMetadata(inode.xattrBlock * blockSize, blockSize);
    return [...stored, ...parseXattrBlock(block, inode.number)];
  }

  async #xattrValue({ value }: StoredXattr): Promise<Buffer> {
    if (Buffer.isBuffer(value)) return value;
    const inode = await this.inode(value.inode);
    if (value.sizeBytes > maxXattrBytes || inode.sizeBytes !== value.sizeBytes || inode.kind !== 'file')
      throw new DamagedFilesystem(`has a damaged extended attribute (inode ${value.inode})`);
    const parts: Buffer[] = [];
    for await (const piece of this.contents(inode)) parts.push(piece);
    return Buffer.concat(parts);
  }

  /** Contents that are kept in the inode: 60 bytes, and the rest as an attribute. */
  async #inlineData(inode: Inode): Promise<Buffer> {
    this.#refuseEncrypted(inode);
    const rest = (await this.#storedXattrs(inode)).find((xattr) => xattr.name === inlineDataXattr);
    const value = rest ? await this.#xattrValue(rest) : Buffer.alloc(0);
    return Buffer.concat([inode.blockArea, value]);
  }

  #refuseEncrypted({ flags, number }: Inode): void {
    if ((flags & inodeFlags.encrypted) !== 0)
      throw new DamagedFilesystem(`has encrypted files (inode ${number}), which cannot be read`);
  }

  /** First block of a group's inode table, from its descriptor (Documentation/filesystems/ext4/group_descr.rst). */
  async #inodeTable(group: number): Promise<number> {
    const { descriptorSize, firstDataBlock, blocks } = this.superblock;
    const descriptor = await groupDescriptor(this.#device, this.superblock, group);
    const high = descriptorSize >= 64 ? descriptor.readUInt32LE(0x28) * 2 ** 32 : 0;
    const table = descriptor.readUInt32LE(0x8) + high;
    if (table <= firstDataBlock || table >= blocks) throw new DamagedFilesystem('points beyond its end');
    return table;
  }
}

function* hole(length: number): Generator<Buffer> {
  for (let left = length; left > 0; left -= zeros.length)
    yield zeros.subarray(0, Math.min(left, zeros.length));
}
