import { inodeNumbers, nodeTypes } from './format.ts';
import type { DirectoryNode, Node } from './nodes.ts';

/** A node with its inode number given, and the number of the directory it was first found in. */
export interface NumberedNode {
  readonly node: Node;
  readonly parent: number;
}

/**
 * Gives every node its inode number, ascending in the order of the result.
 *
 * The children of a directory get consecutive numbers, so that reading a
 * directory and then its files touches few blocks of the inode table.
 */
export function numberNodes(root: DirectoryNode, lostAndFound: DirectoryNode): NumberedNode[] {
  root.number = inodeNumbers.root;
  lostAndFound.number = inodeNumbers.lostAndFound;
  const numbered: NumberedNode[] = [
    { node: root, parent: root.number },
    { node: lostAndFound, parent: root.number },
  ];
  let next: number = inodeNumbers.firstFree;
  // The list doubles as the queue of directories to look into.
  for (let index = 0; index < numbered.length; index++) {
    const directory = numbered[index]?.node;
    if (directory?.kind !== 'directory') continue;
    for (const child of directory.entries.values()) {
      // Already numbered: another name of a hard-linked file, or lost+found.
      if (child.number !== 0) continue;
      child.number = next++;
      numbered.push({ node: child, parent: directory.number });
    }
  }
  return numbered;
}

/** The number a directory entry gives for the kind of its node. */
export function entryType(node: Node): number {
  return nodeTypes[node.kind].entry;
}
