import { blockSize, blocksPerGroup, descriptorBlocks } from './format.ts';
import { type Geometry, groupLayout } from './geometry.ts';
import type { InodeContents } from './inode.ts';

/** Block pointers in an indirect block */
const pointersPerBlock = blockSize / 4;

export interface ResizeInode extends InodeContents {
  readonly contents: readonly { readonly block: number; readonly data: Buffer }[];
}

/**
 * The inode that owns the blocks reserved for more group descriptors, so that
 * a mounted filesystem can grow.
 *
 * It is mapped the ext2 way: its double-indirect block lists the reserved
 * blocks of group 0, and each of those lists its own copies in the backup
 * groups (`verify_reserved_gdb` in the kernel's resize.c). The size is the one
 * of a file mapped up to the end of that double-indirect block.
 */
export function resizeInode(geometry: Geometry, doubleIndirectBlock: number): ResizeInode {
  const doubleIndirect = Buffer.alloc(blockSize);
  const contents = [{ block: doubleIndirectBlock, data: doubleIndirect }];
  const backupGroups: number[] = [];
  for (let group = 1; group < geometry.groups; group++) {
    if (groupLayout(group).hasBackup) backupGroups.push(group);
  }

  for (let index = geometry.usedDescriptorBlocks; index < descriptorBlocks; index++) {
    const block = 1 + index;
    doubleIndirect.writeUInt32LE(block, (index % pointersPerBlock) * 4);
    const copies = Buffer.alloc(blockSize);
    backupGroups.forEach((group, position) =>
      copies.writeUInt32LE(block + group * blocksPerGroup, position * 4),
    );
    contents.push({ block, data: copies });
  }

  const reserved = descriptorBlocks - geometry.usedDescriptorBlocks;
  const blockArea = Buffer.alloc(60);
  const doubleIndirectSlot = 13;
  blockArea.writeUInt32LE(doubleIndirectBlock, doubleIndirectSlot * 4);
  return {
    blockArea,
    sizeBytes: (12 + pointersPerBlock + pointersPerBlock ** 2) * blockSize,
    blocks: 1 + reserved * (1 + backupGroups.length),
    flags: 0,
    contents,
  };
}
