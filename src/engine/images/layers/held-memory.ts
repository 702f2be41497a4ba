import type { Node } from '../ext4/nodes.ts';

/** Bytes of heap, as V8 on 64 bits was seen to take them, rounded up. */
const costs = { node: 220, directory: 160, extent: 90, name: 70, attribute: 250 };

/** What a node keeps in memory while its image is made, its names apart. */
export function nodeBytes(node: Node): number {
  let bytes = costs.node;
  if (node.kind === 'file') bytes += node.extents.length * costs.extent;
  if (node.kind === 'directory') bytes += costs.directory;
  if (node.kind === 'symlink') bytes += node.target.length;
  for (const [name, value] of node.xattrs ?? []) bytes += costs.attribute + name.length + value.length;
  return bytes;
}

/** What a name keeps, with its place in a directory. */
export function nameBytes(name: string): number {
  return costs.name + name.length;
}
