import type { BlockDevice } from './block-device.ts';
import type { Superblock } from './superblock.ts';

/** What a filesystem says of one of its groups (Documentation/filesystems/ext4/group_descr.rst). */
export function groupDescriptor(device: BlockDevice, superblock: Superblock, group: number): Promise<Buffer> {
  const { blockSize, descriptorSize, blocksPerGroup, firstDataBlock } = superblock;
  const perBlock = blockSize / descriptorSize;
  const index = Math.floor(group / perBlock);
  let block = firstDataBlock + 1 + index;
  if (superblock.hasMetaGroups && index >= superblock.firstMetaGroup) {
    const first = index * perBlock;
    block = firstDataBlock + first * blocksPerGroup + (superblock.hasSuperblock(first) ? 1 : 0);
  }
  return device.readMetadata(block * blockSize + (group % perBlock) * descriptorSize, descriptorSize);
}
