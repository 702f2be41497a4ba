/** How a VM's root disk is made of an image's filesystem. In the order in which they are shown. */
export const diskMethodNames = ['qcow2', 'reflink', 'dm-snapshot', 'copy'] as const;
export type DiskMethodName = (typeof diskMethodNames)[number];

/** How a VMM has to read what it opens. */
export type DiskFormat = 'qcow2' | 'raw';

/** The root disk of a VM. */
export interface RootDisk {
  /** Of the VM: what a method makes beside the file is named after it */
  readonly id: string;
  /** The file that holds what is the VM's own */
  readonly path: string;
  /** The image's filesystem, which is shared and never written */
  readonly backing: string;
  readonly sizeBytes: number;
}

export interface DiskWork {
  readonly signal: AbortSignal;
  /** Told now and then by methods that copy */
  readonly onProgress?: (done: number, total: number) => void;
}

/**
 * A way to make root disks. A disk that was begun and not finished is taken back by `detach` and then removing its
 * file: both count what is not there as done.
 */
export interface DiskMethod {
  readonly name: DiskMethodName;
  readonly format: DiskFormat;
  /** Whether the disk of a guest that runs can be made larger */
  readonly growsLive: boolean;
  /** Makes the disk. Throws `host_unsupported` when there is no room for it, or the filesystem cannot do it. */
  create(disk: RootDisk, work: DiskWork): Promise<void>;
  /** Makes the disk of a VM that does not run larger. One that is large enough is left alone. */
  grow(disk: RootDisk): Promise<void>;
  /** Makes it ready to be opened; returns what a VMM opens. One that is ready is left as it is. */
  attach(disk: RootDisk): Promise<string>;
  /** Takes back what `attach` made. The VMM has gone. */
  detach(disk: Pick<RootDisk, 'id' | 'path'>): Promise<void>;
}

/** For methods whose disks are plain files. */
export const plainFile: Pick<DiskMethod, 'attach' | 'detach'> = {
  attach: ({ path }) => Promise.resolve(path),
  detach: () => Promise.resolve(),
};
