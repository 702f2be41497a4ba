import type { BlockAllocator, BlockRun } from './block-allocator.ts';
import type { BlockFile } from './block-file.ts';
import { type DirectoryEntry, encodeLeafBlock, splitIntoBlocks } from './directory.ts';
import { buildExtentTree } from './extents.ts';
import { blockSize, inodeFlags, inodeSize, maxLinks, nodeTypes } from './format.ts';
import { deviceBlockArea, encodeInode, inodeChecksumSeed, type InodeContents } from './inode.ts';
import { type DirectoryNode, extentsOf, type FileNode, type Node, type SymlinkNode } from './nodes.ts';
import { entryType } from './numbering.ts';
import { encodeXattrs, sealXattrBlock } from './xattrs.ts';

/** What encoding an inode needs besides the node. */
export interface NodeContext {
  readonly file: BlockFile;
  readonly allocator: BlockAllocator;
  readonly checksumSeed: number;
}

/** Blocks on their way to the file, which copies them: one for each directory would be memory to get and to clear. */
const scratch = Buffer.alloc(blockSize);

/** The inode at hand. */
const inode = Buffer.alloc(inodeSize);

/** Longest target that is kept in the inode itself, with its final zero */
const inlineTargetLength = 59;

/** Writes the blocks of a node (but not a file's contents, which are there) and returns its inode, valid until the next. */
export function writeNode(context: NodeContext, node: Node, parent: number): Buffer {
  const seed = inodeChecksumSeed(context.checksumSeed, node.number);
  const contents = writeContents(context, node, parent, seed);
  const xattrs = encodeXattrs(node.xattrs);
  const record = {
    contents,
    type: node.kind,
    attributes: node,
    links: node.kind === 'directory' ? directoryLinks(node) : node.links,
    xattrBlock: xattrs.block ? writeXattrBlock(context, xattrs.block) : 0,
    inlineXattrs: xattrs.inline,
  };
  encodeInode(inode.fill(0), record, seed);
  return inode;
}

function writeContents(context: NodeContext, node: Node, parent: number, seed: number): InodeContents {
  switch (node.kind) {
    case 'file':
      return extentContents(context, node, seed);
    case 'directory':
      return writeDirectory(context, node, parent, seed);
    case 'symlink':
      return writeSymlink(context, node, seed);
    case 'char':
    case 'block':
      return { sizeBytes: 0, blocks: 0, blockArea: deviceBlockArea(node), flags: 0 };
    case 'fifo':
      return { sizeBytes: 0, blocks: 0, blockArea: Buffer.alloc(60), flags: 0 };
  }
}

/** Describes contents in extents, writing the blocks of their tree if they have one. */
export function extentContents(
  context: NodeContext,
  contents: Pick<FileNode, 'size' | 'extents'>,
  seed: number,
): InodeContents {
  const tree = buildExtentTree(contents.extents, seed, () => firstBlock(context.allocator.allocate(1)));
  for (const { block, data } of tree.blocks) context.file.put(block * blockSize, data);
  const blocks = contents.extents.reduce((sum, { run }) => sum + run.length, tree.blocks.length);
  return { sizeBytes: contents.size, blocks, blockArea: tree.root, flags: inodeFlags.extents };
}

function writeDirectory(
  context: NodeContext,
  node: DirectoryNode,
  parent: number,
  seed: number,
): InodeContents {
  const entries: DirectoryEntry[] = [
    { name: '.', inode: node.number, type: nodeTypes.directory.entry },
    { name: '..', inode: parent, type: nodeTypes.directory.entry },
  ];
  for (const [name, child] of node.entries)
    entries.push({ name, inode: child.number, type: entryType(child) });
  const parts = splitIntoBlocks(entries);
  return writeBlocks(context, parts.length, seed, (block, index) => {
    encodeLeafBlock(block, parts[index] ?? [], seed);
  });
}

function writeSymlink(context: NodeContext, node: SymlinkNode, seed: number): InodeContents {
  const target = Buffer.from(node.target, 'latin1');
  if (target.length > inlineTargetLength) {
    const contents = writeBlocks(context, 1, seed, (block) => void target.copy(block.fill(0)));
    return { ...contents, sizeBytes: target.length };
  }
  const blockArea = Buffer.alloc(60);
  target.copy(blockArea);
  return { sizeBytes: target.length, blocks: 0, blockArea, flags: 0 };
}

/** Takes blocks and writes what `encode` puts into each. */
function writeBlocks(
  context: NodeContext,
  count: number,
  seed: number,
  encode: (block: Buffer, index: number) => void,
): InodeContents {
  const extents = extentsOf(context.allocator.allocate(count));
  for (const { logical, run } of extents) {
    for (let index = 0; index < run.length; index++) {
      encode(scratch, logical + index);
      context.file.put((run.start + index) * blockSize, scratch);
    }
  }
  return extentContents(context, { size: count * blockSize, extents }, seed);
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

/** Its name, its “.”, and the “..” of each directory in it; 1 when that is more than can be counted. */
function directoryLinks(node: DirectoryNode): number {
  let links = 2;
  for (const child of node.entries.values()) if (child.kind === 'directory') links++;
  return links > maxLinks ? 1 : links;
}
