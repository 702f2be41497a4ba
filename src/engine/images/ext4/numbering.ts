import type { FileTree } from './file-tree.ts';
import { inodeNumbers } from './format.ts';
import type { NodeId } from './node-table.ts';

/** A node, and the number of the inode of the directory it was first found in. */
export interface NumberedNode {
  readonly node: NodeId;
  readonly parent: number;
}

/**
 * Gives every node its inode number, and returns the directories in the order of theirs.
 *
 * The children of a directory get consecutive numbers, so that reading a
 * directory and then its files touches few blocks of the inode table.
 */
export function numberNodes({ nodes, names, root }: FileTree, lostAndFound: NodeId): Uint32Array {
  nodes.setInode(root, inodeNumbers.root);
  nodes.setInode(lostAndFound, inodeNumbers.lostAndFound);
  const directories = new Uint32Array(nodes.directories);
  directories.set([root, lostAndFound]);
  let found = 2;
  let next: number = inodeNumbers.firstFree;
  // The list doubles as the queue of directories to look into.
  for (let index = 0; index < found; index++) {
    for (let name = names.first(directories[index]!); name !== 0; name = names.next(name)) {
      const child = names.node(name);
      // Already numbered: another name of a hard-linked file, or lost+found.
      if (nodes.inode(child) !== 0) continue;
      nodes.setInode(child, next++);
      if (nodes.isDirectory(child)) directories[found++] = child;
    }
  }
  return directories;
}

/** All nodes, ascending by the numbers that they were given. */
export function* inOrder(
  { nodes, names, root }: FileTree,
  directories: Uint32Array,
): Generator<NumberedNode> {
  const parent = nodes.inode(root);
  for (const node of directories.subarray(0, 2)) yield { node, parent };
  let next: number = inodeNumbers.firstFree;
  for (const directory of directories) {
    const number = nodes.inode(directory);
    for (let name = names.first(directory); name !== 0; name = names.next(name)) {
      const node = names.node(name);
      // Another one was met before, where it was numbered.
      if (nodes.inode(node) !== next) continue;
      next++;
      yield { node, parent: number };
    }
  }
}
