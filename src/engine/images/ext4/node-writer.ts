import type { BlockAllocator } from './block-allocator.ts';
import type { BlockFile } from './block-file.ts';
import { directoryLinks, writeDirectoryBlocks } from './directory-writer.ts';
import { type Extents, extentsOf } from './extent-table.ts';
import { writeExtentTree } from './extents.ts';
import type { FileTree } from './file-tree.ts';
import { blockSize, inlineTargetLength, inodeFlags, inodeSize } from './format.ts';
import { deviceBlockArea, encodeInode, inodeChecksumSeed, type InodeContents } from './inode.ts';
import type { NumberedNode } from './numbering.ts';
import type { BlockRun } from './run-list.ts';
import { encodeXattrs, sealXattrBlock } from './xattrs.ts';

/** What encoding an inode needs besides the node. */
export interface NodeContext {
  readonly file: BlockFile;
  readonly allocator: BlockAllocator;
  readonly checksumSeed: number;
}

/** The block of a long symlink on its way to the file, which copies it. */
const scratch = Buffer.alloc(blockSize);

/** The inode at hand. */
const inode = Buffer.alloc(inodeSize);

/** Writes the blocks of a node (but not a file's contents, which are there) and returns its inode, valid until the next. */
export function writeNode(context: NodeContext, tree: FileTree, { node, parent }: NumberedNode): Buffer {
  const { nodes } = tree;
  const seed = inodeChecksumSeed(context.checksumSeed, nodes.inode(node));
  const contents = writeContents(context, tree, { node, parent, seed });
  const xattrs = encodeXattrs(nodes.xattrs(node));
  const record = {
    contents,
    type: nodes.kind(node),
    attributes: nodes.attributes(node),
    links: nodes.isDirectory(node) ? directoryLinks(tree, node) : nodes.links(node),
    xattrBlock: xattrs.block ? writeXattrBlock(context, xattrs.block) : 0,
    inlineXattrs: xattrs.inline,
  };
  encodeInode(inode.fill(0), record, seed);
  return inode;
}

function writeContents(
  context: NodeContext,
  tree: FileTree,
  { node, parent, seed }: NumberedNode & { readonly seed: number },
): InodeContents {
  const { nodes } = tree;
  switch (nodes.kind(node)) {
    case 'file':
      return extentContents(context, nodes.contents(node), seed);
    case 'directory': {
      const extents = writeDirectoryBlocks(tree, node, { ...context, parent, inodeSeed: seed });
      return extentContents(context, { size: blocksIn(extents) * blockSize, extents }, seed);
    }
    case 'symlink':
      return writeSymlink(context, nodes.target(node), seed);
    case 'char':
    case 'block':
      return { sizeBytes: 0, blocks: 0, blockArea: deviceBlockArea(nodes.device(node)), flags: 0 };
    case 'fifo':
      return { sizeBytes: 0, blocks: 0, blockArea: Buffer.alloc(60), flags: 0 };
  }
}

/** Describes contents in extents, writing the blocks of their tree if they have one. */
export function extentContents(
  context: NodeContext,
  { size, extents }: { readonly size: number; readonly extents: Extents },
  seed: number,
): InodeContents {
  const tree = writeExtentTree(extents, seed, (data) => {
    const block = firstBlock(context.allocator.allocate(1));
    context.file.put(block * blockSize, data);
    return block;
  });
  return {
    sizeBytes: size,
    blocks: blocksIn(extents) + tree.blocks,
    blockArea: tree.root,
    flags: inodeFlags.extents,
  };
}

function blocksIn(extents: Extents): number {
  let blocks = 0;
  for (const { run } of extents) blocks += run.length;
  return blocks;
}

function writeSymlink(context: NodeContext, target: string, seed: number): InodeContents {
  if (target.length > inlineTargetLength) {
    const runs = context.allocator.allocate(1);
    scratch.fill(0).write(target, 'latin1');
    context.file.put(firstBlock(runs) * blockSize, scratch);
    return extentContents(context, { size: target.length, extents: extentsOf(runs) }, seed);
  }
  const blockArea = Buffer.alloc(60);
  blockArea.write(target, 'latin1');
  return { sizeBytes: target.length, blocks: 0, blockArea, flags: 0 };
}

function writeXattrBlock(context: NodeContext, data: Buffer): number {
  const block = firstBlock(context.allocator.allocate(1));
  sealXattrBlock(data, block, context.checksumSeed);
  context.file.put(block * blockSize, data);
  return block;
}

function firstBlock(runs: readonly BlockRun[]): number {
  const [run] = runs;
  if (!run) throw new Error('allocated no block');
  return run.start;
}
