import { blockSize } from './format.ts';

/** Blocks of the journal for a filesystem of that many blocks; the same table as mke2fs. */
export function journalBlocks(filesystemBlocks: number): number {
  if (filesystemBlocks < 32_768) return 1024;
  if (filesystemBlocks < 262_144) return 4096;
  if (filesystemBlocks < 524_288) return 8192;
  if (filesystemBlocks < 4_194_304) return 16_384;
  if (filesystemBlocks < 8_388_608) return 32_768;
  if (filesystemBlocks < 16_777_216) return 65_536;
  if (filesystemBlocks < 33_554_432) return 131_072;
  return 262_144;
}

/**
 * The first block of an empty jbd2 journal (Documentation/filesystems/ext4/journal.rst,
 * big-endian). The kernel adds the checksum feature when it mounts.
 */
export function journalSuperblock(lengthBlocks: number, uuid: Buffer): Buffer {
  const data = Buffer.alloc(blockSize);
  data.writeUInt32BE(0xc03b3998, 0x0);
  // Superblock, version 2
  data.writeUInt32BE(4, 0x4);
  data.writeUInt32BE(blockSize, 0xc);
  data.writeUInt32BE(lengthBlocks, 0x10);
  // First block of the log, first sequence number, and 0 as its start: nothing to replay
  data.writeUInt32BE(1, 0x14);
  data.writeUInt32BE(1, 0x18);
  data.writeUInt32BE(0, 0x1c);
  uuid.copy(data, 0x30);
  data.writeUInt32BE(1, 0x40);
  return data;
}
