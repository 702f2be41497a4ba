import type { BlockFile } from './block-file.ts';
import { blockSize, inodeSize, inodesPerGroup } from './format.ts';
import { groupLayout } from './geometry.ts';

/** Inodes written at once; divides `inodesPerGroup` */
const stretchLength = 1024;

/** Collects inodes, put in ascending order, and writes them a stretch at a time. */
export class InodeTable {
  readonly #file: BlockFile;
  readonly #buffer = Buffer.alloc(stretchLength * inodeSize);
  #stretch = 0;
  #used = 0;

  constructor(file: BlockFile) {
    this.#file = file;
  }

  put(inode: number, record: Buffer): void {
    const stretch = Math.floor((inode - 1) / stretchLength);
    if (stretch !== this.#stretch) {
      this.flush();
      this.#stretch = stretch;
    }
    const position = ((inode - 1) % stretchLength) * inodeSize;
    record.copy(this.#buffer, position);
    this.#used = position + inodeSize;
  }

  flush(): void {
    this.#file.put(inodePosition(this.#stretch * stretchLength + 1), this.#buffer.subarray(0, this.#used));
    this.#buffer.fill(0);
    this.#used = 0;
  }
}

/** Where in the file an inode is. Numbers count from 1. */
export function inodePosition(inode: number): number {
  const group = Math.floor((inode - 1) / inodesPerGroup);
  return groupLayout(group).inodeTable * blockSize + ((inode - 1) % inodesPerGroup) * inodeSize;
}
