import { mostDirectoryBytes } from './directory.ts';
import { blockSize, inodeSize } from './format.ts';
import { NameTable } from './name-table.ts';
import { type NodeId, NodeTable } from './node-table.ts';
import { Texts } from './texts.ts';

/**
 * The files of an image as they are kept until they are written, in tables instead of objects: an image may have a
 * million of them (docs/decisions/image-memory.md).
 */
export class FileTree {
  readonly #texts = new Texts();
  readonly nodes = new NodeTable(this.#texts);
  readonly names = new NameTable(this.nodes, this.#texts);
  readonly root: NodeId = this.nodes.add(implicitDirectory);

  get heldBytes(): number {
    return this.#texts.heldBytes + this.nodes.heldBytes + this.names.heldBytes;
  }

  /** Bytes on disk that will be written once all is known, at most: directories, inodes, and what does not fit these. */
  get pendingBytes(): number {
    const { nodes, names } = this;
    const directoryBytes = mostDirectoryBytes(nodes.directories, names.entryBytes);
    return directoryBytes + nodes.blocks * blockSize + nodes.count * inodeSize;
  }

  /** What a name in a directory stands for; 0 when it is not there. */
  child(directory: NodeId, name: string): NodeId {
    const id = this.names.find(directory, name);
    return id === 0 ? 0 : this.names.node(id);
  }
}

/** A directory that no entry describes: a path only leads through it. */
export const implicitDirectory = {
  kind: 'directory',
  mode: 0o755,
  uid: 0,
  gid: 0,
  mtime: { seconds: 0, nanoseconds: 0 },
  xattrs: undefined,
} as const;
