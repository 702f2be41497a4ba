import type { BlockFile } from './block-file.ts';
import { countBlocks, DirectoryBlock } from './directory.ts';
import { type Extent, extentsOf } from './extent-table.ts';
import type { FileTree } from './file-tree.ts';
import { blockSize, maxLinks, nodeTypes } from './format.ts';
import type { BlockAllocator } from './block-allocator.ts';
import type { NodeId } from './node-table.ts';

/** What the blocks of a directory need besides its names. */
export interface DirectoryTarget {
  readonly file: BlockFile;
  readonly allocator: BlockAllocator;
  /** Number of the inode of the directory above */
  readonly parent: number;
  readonly inodeSeed: number;
}

const block = new DirectoryBlock();

/** Writes the names in a directory, from the table straight into its blocks, and returns where these are. */
export function writeDirectoryBlocks(
  tree: FileTree,
  directory: NodeId,
  { file, allocator, parent, inodeSeed }: DirectoryTarget,
): Extent[] {
  const { nodes, names } = tree;
  const extents = extentsOf(allocator.allocate(countBlocks(nameLengths(tree, directory))));
  const free = blockNumbers(extents);
  const put = (): void => {
    block.seal(inodeSeed);
    file.put(free.next().value! * blockSize, block.data);
    block.clear();
  };
  block.clear();
  const { entry } = nodeTypes.directory;
  block.data.write('.', block.add(nodes.inode(directory), entry, 1));
  block.data.write('..', block.add(parent, entry, 2));
  for (let name = names.first(directory); name !== 0; name = names.next(name)) {
    const length = names.length(name);
    if (!block.hasRoomFor(length)) put();
    const node = names.node(name);
    names.copy(name, block.data, block.add(nodes.inode(node), nodeTypes[nodes.kind(node)].entry, length));
  }
  put();
  return extents;
}

function* nameLengths({ names }: FileTree, directory: NodeId): Generator<number> {
  yield* [1, 2];
  for (let name = names.first(directory); name !== 0; name = names.next(name)) yield names.length(name);
}

function* blockNumbers(extents: readonly Extent[]): Generator<number, undefined> {
  for (const { run } of extents) for (let index = 0; index < run.length; index++) yield run.start + index;
}

/** Its name, its “.”, and the “..” of each directory in it; 1 when that is more than can be counted. */
export function directoryLinks({ nodes, names }: FileTree, directory: NodeId): number {
  let links = 2;
  for (let name = names.first(directory); name !== 0; name = names.next(name))
    if (nodes.isDirectory(names.node(name))) links++;
  return links > maxLinks ? 1 : links;
}
