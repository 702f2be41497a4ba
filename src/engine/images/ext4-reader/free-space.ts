import { abortError } from '../../../errors.ts';
import { crc32c, crc32cOfNumber } from '../ext4/crc32c.ts';
import { Turns } from '../ext4/turns.ts';
import { BlockDevice } from './block-device.ts';
import { DamagedFilesystem } from './damage.ts';
import { groupDescriptor } from './group-descriptor.ts';
import { parseSuperblock, superblockBytes, superblockOffset, type Superblock } from './superblock.ts';

/** Part of a file, in bytes. */
export interface ByteRange {
  readonly offset: number;
  readonly length: number;
}

/** Offsets and bits of the superblock, and of a group's descriptor (Documentation/filesystems/ext4/). */
const fields = { state: 0x3a, compat: 0x5c, readOnlyCompat: 0x64, uuid: 0x68, lastOrphan: 0xe8 } as const;
const checksums = { seed: 0x270, own: 0x3fc, hasSeed: 0x2000, algorithm: 0x175 } as const;
const group = { bitmap: 0x0, free: 0xc, flags: 0x12, checksum: 0x18 } as const;
const wideGroup = { bitmap: 0x20, free: 0x2c, checksum: 0x38 } as const;
const blockUninit = 0x2;
const metadataChecksums = 0x400;
/** Those under which a bit of a bitmap is a block, and a clear one is nobody's. */
const knownReadOnlyCompat =
  0x1 | 0x2 | 0x8 | 0x10 | 0x20 | 0x40 | 0x100 | metadataChecksums | 0x2000 | 0x8000;
/** Blocks of snapshots are in bitmaps of their own. */
const excludeBitmap = 0x100;
/** Valid, and neither with errors nor with orphans. */
const cleanState = 1;

/**
 * What of a filesystem in a file belongs to nobody, as far as that is beyond doubt: it was unmounted cleanly, has
 * features that are known, and every bitmap has its checksum and as many clear bits as its group says. Throws
 * `DamagedFilesystem` otherwise. In their order; none touches the next. Groups that were never used are left out: nothing was
 * written there.
 */
export async function readFreeSpace(path: string, signal: AbortSignal): Promise<readonly ByteRange[]> {
  const device = await BlockDevice.open(path);
  try {
    if (device.sizeBytes < superblockOffset + superblockBytes) throw new DamagedFilesystem('is not ext4');
    const data = await device.read(superblockOffset, superblockBytes);
    const superblock = parseSuperblock(data);
    const seed = requireTrust(data);
    const { blocks, blockSize, groups } = superblock;
    if (blocks * blockSize > device.sizeBytes) throw new DamagedFilesystem('is cut off');
    const ranges: { offset: number; length: number }[] = [];
    const turns = new Turns();
    for (let number = 0; number < groups; number++) {
      if (signal.aborted) throw abortError(signal);
      await turns.share();
      for (const { first, count } of await freeRuns(device, superblock, { number, seed })) {
        const [offset, length] = [first * blockSize, count * blockSize];
        const last = ranges.at(-1);
        if (last && last.offset + last.length === offset) last.length += length;
        else ranges.push({ offset, length });
      }
    }
    return ranges;
  } finally {
    await device.close();
  }
}

/** Refuses a filesystem whose bitmaps may say less than all; returns what its checksums start from. */
function requireTrust(data: Buffer): number {
  const readOnlyCompat = data.readUInt32LE(fields.readOnlyCompat);
  const unknown = readOnlyCompat & ~knownReadOnlyCompat;
  if (unknown !== 0 || (data.readUInt32LE(fields.compat) & excludeBitmap) !== 0)
    throw new DamagedFilesystem(`has features that cannot be read: 0x${(unknown >>> 0).toString(16)}`);
  if (data.readUInt16LE(fields.state) !== cleanState || data.readUInt32LE(fields.lastOrphan) !== 0)
    throw new DamagedFilesystem('was not unmounted cleanly');
  if ((readOnlyCompat & metadataChecksums) === 0 || data[checksums.algorithm] !== 1)
    throw new DamagedFilesystem('has no checksums');
  if (crc32c(0xffff_ffff, data.subarray(0, checksums.own)) !== data.readUInt32LE(checksums.own))
    throw new DamagedFilesystem('has a superblock whose checksum is wrong');
  const hasSeed = (data.readUInt32LE(0x60) & checksums.hasSeed) !== 0;
  return hasSeed
    ? data.readUInt32LE(checksums.seed)
    : crc32c(0xffff_ffff, data.subarray(fields.uuid, fields.uuid + 16));
}

interface BlockRun {
  readonly first: number;
  readonly count: number;
}

async function freeRuns(
  device: BlockDevice,
  superblock: Superblock,
  { number, seed }: { readonly number: number; readonly seed: number },
): Promise<readonly BlockRun[]> {
  const { blocks, blockSize, blocksPerGroup, firstDataBlock, descriptorSize } = superblock;
  const descriptor = await groupDescriptor(device, superblock, number);
  const isWide = descriptorSize >= 64;
  checkDescriptor(descriptor, { number, seed });
  if ((descriptor.readUInt16LE(group.flags) & blockUninit) !== 0) return [];
  const high = isWide ? descriptor.readUInt32LE(wideGroup.bitmap) * 2 ** 32 : 0;
  const at = descriptor.readUInt32LE(group.bitmap) + high;
  if (at <= firstDataBlock || at >= blocks) throw new DamagedFilesystem('points beyond its end');
  const bitmap = await device.read(at * blockSize, Math.ceil(blocksPerGroup / 8));
  const checksum = crc32c(seed, bitmap);
  const written =
    descriptor.readUInt16LE(group.checksum) +
    (isWide ? descriptor.readUInt16LE(wideGroup.checksum) * 2 ** 16 : 0);
  if ((isWide ? checksum : checksum & 0xffff) !== written)
    throw new DamagedFilesystem(`has a bitmap (group ${number}) whose checksum is wrong`);

  const start = firstDataBlock + number * blocksPerGroup;
  const runs = clearRuns(bitmap, Math.min(blocksPerGroup, blocks - start));
  const found = runs.reduce((sum, { count }) => sum + count, 0);
  const told =
    descriptor.readUInt16LE(group.free) + (isWide ? descriptor.readUInt16LE(wideGroup.free) * 2 ** 16 : 0);
  if (found !== told) throw new DamagedFilesystem(`has a group (${number}) that contradicts itself`);
  return runs.map(({ first, count }) => ({ first: start + first, count }));
}

/** The lower half of the checksum of number and descriptor, with zeros where it is itself. */
function checkDescriptor(
  descriptor: Buffer,
  { number, seed }: { readonly number: number; readonly seed: number },
): void {
  const own = 0x1e;
  const blank = Buffer.from(descriptor);
  blank.writeUInt16LE(0, own);
  const checksum = crc32c(crc32cOfNumber(seed, number), blank) & 0xffff;
  if (checksum !== descriptor.readUInt16LE(own))
    throw new DamagedFilesystem(`has a group (${number}) whose checksum is wrong`);
}

function clearRuns(bitmap: Buffer, bits: number): BlockRun[] {
  const runs: BlockRun[] = [];
  let first = -1;
  for (let bit = 0; bit < bits;) {
    const byte = bitmap[bit >>> 3]!;
    const isWhole = bit % 8 === 0 && bits - bit >= 8;
    const step = isWhole && (byte === 0 || byte === 0xff) ? 8 : 1;
    const isClear = (byte & (1 << (bit & 7))) === 0;
    if (isClear && first < 0) first = bit;
    if (!isClear && first >= 0) {
      runs.push({ first, count: bit - first });
      first = -1;
    }
    bit += step;
  }
  if (first >= 0) runs.push({ first, count: bits - first });
  return runs;
}
