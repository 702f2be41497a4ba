import type { Place } from './extent-table.ts';
import type { Xattrs } from './xattr-table.ts';

/**
 * What an entry of a layer says of a node. Targets are “byte strings”: one character
 * per byte (latin1), as names are, since file names are bytes and need not be UTF-8.
 */
export type Node = FileNode | DirectoryNode | SymlinkNode | DeviceNode | FifoNode;

/** What every inode has. */
export interface Attributes {
  /** Permissions with setuid, setgid and sticky, without the type */
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
  readonly mtime: Timestamp;
  /** Full name (`user.x`) to value */
  readonly xattrs: Xattrs | undefined;
}

export interface Timestamp {
  /** Seconds since 1970, negative before */
  readonly seconds: number;
  readonly nanoseconds: number;
}

export interface FileNode extends Attributes {
  readonly kind: 'file';
  readonly size: number;
  /** In the extents of the node table */
  readonly place: Place;
}

export interface DirectoryNode extends Attributes {
  readonly kind: 'directory';
}

export interface SymlinkNode extends Attributes {
  readonly kind: 'symlink';
  readonly target: string;
}

export interface DeviceNode extends Attributes {
  readonly kind: 'char' | 'block';
  readonly major: number;
  readonly minor: number;
}

export interface FifoNode extends Attributes {
  readonly kind: 'fifo';
}
