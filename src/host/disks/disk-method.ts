import { BangerError } from '../../errors.ts';

/** How a VM's root disk is made of an image's filesystem. In the order in which they are shown. */
export const diskMethodNames = ['qcow2', 'reflink', 'dm-snapshot', 'copy'] as const;
export type DiskMethodName = (typeof diskMethodNames)[number];

/** Whether disks of a method hold only what differs from the image's filesystem: of no use when that has changed. */
export function standsOnImage(name: DiskMethodName): boolean {
  switch (name) {
    case 'qcow2':
    case 'dm-snapshot':
      return true;
    case 'reflink':
    case 'copy':
      return false;
  }
}

/** How a VMM has to read what it opens. */
export type DiskFormat = 'qcow2' | 'raw';

/** The root disk of a VM. */
export interface RootDisk {
  /** Of the VM: what a method makes beside the file is named after it */
  readonly id: string;
  /** The file that holds what is the VM's own */
  readonly path: string;
  /** The image's filesystem, which is shared and never written. Read by `create`; later by methods that stand on it. */
  readonly backing: string;
  /** Of that filesystem: no disk of it was ever smaller, unless the image was made again since */
  readonly imageBytes: number;
  readonly sizeBytes: number;
  /** Before it was to grow; absent where that is not known */
  readonly hadBytes?: number;
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
  /**
   * Makes the disk, and flushes it: after a power cut it is whole. Throws `host_unsupported` when there is no room for
   * it, or the filesystem cannot do it.
   */
  create(disk: RootDisk, work: DiskWork): Promise<void>;
  /**
   * Makes the disk of a VM that does not run larger. One that is large enough is left alone; one that has lost what
   * was in it throws `invalid_state`.
   */
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

/** What a disk has at least, unless something of it was lost. */
export function leastBytes({ imageBytes, sizeBytes, hadBytes = sizeBytes }: RootDisk): number {
  return Math.min(imageBytes, hadBytes, sizeBytes);
}

/** What is missing of a disk was lost: it would be filled up with zeros, without a word. */
export function refuseCutOff({ id, path }: RootDisk, hasBytes: number, leastBytes: number): void {
  if (hasBytes >= leastBytes) return;
  throw new BangerError(
    'invalid_state',
    `The disk "${path}" was cut off, as by a power cut: it has ${hasBytes} bytes, and was made with ${leastBytes} at least`,
    {
      hint: `Put back a copy of it, if you have one, or make the VM again: banger vm delete ${id.slice(0, 12)}`,
    },
  );
}
