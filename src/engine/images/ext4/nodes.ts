import type { BlockRun } from './block-allocator.ts';

/**
 * The tree that is written. Names and targets are “byte strings”: one character
 * per byte (latin1), since file names are bytes and need not be UTF-8.
 */
export type Node = FileNode | DirectoryNode | SymlinkNode | DeviceNode | FifoNode;

/** What every inode has. */
export interface Attributes {
  /** Permissions with setuid, setgid and sticky, without the type */
  mode: number;
  uid: number;
  gid: number;
  mtime: Timestamp;
  /** Full name (`user.x`) to value */
  xattrs: ReadonlyMap<string, Buffer> | undefined;
}

export interface Timestamp {
  /** Seconds since 1970, negative before */
  readonly seconds: number;
  readonly nanoseconds: number;
}

interface Inode extends Attributes {
  /** How many names it has; for directories not kept up */
  links: number;
  /** Inode number; 0 until the writer gives one */
  number: number;
}

/** A part of a file: `run.length` blocks of it from block `logical` on are on disk at `run.start`. */
export interface Extent {
  readonly logical: number;
  readonly run: BlockRun;
}

export interface FileNode extends Inode {
  readonly kind: 'file';
  size: number;
  /** Ascending; what lies between reads as zeros */
  extents: readonly Extent[];
}

export interface DirectoryNode extends Inode {
  readonly kind: 'directory';
  readonly entries: Map<string, Node>;
}

export interface SymlinkNode extends Inode {
  readonly kind: 'symlink';
  readonly target: string;
}

export interface DeviceNode extends Inode {
  readonly kind: 'char' | 'block';
  readonly major: number;
  readonly minor: number;
}

export interface FifoNode extends Inode {
  readonly kind: 'fifo';
}

/** Lays runs end to end from block `logical` of a file on. */
export function extentsOf(runs: readonly BlockRun[], logical = 0): Extent[] {
  let position = logical;
  return runs.map((run) => {
    const extent = { logical: position, run };
    position += run.length;
    return extent;
  });
}
