import { LayerRefusal } from './layer-refusal.ts';

/** How much an image may ask of the host. Real images stay far below. */
export interface ConversionLimits {
  /** Entries in all layers, and names in the image */
  readonly entries: number;
  /** Uncompressed bytes of all layers */
  readonly streamBytes: number;
  /** Logical size of one file, holes included; ext4 ends at 16 TiB */
  readonly fileBytes: number;
  /** Uncompressed bytes per compressed one: real contents stay below 10 */
  readonly expansion: number;
  /** The layers of an image may unpack to so much more than that in all: a file of zeros is no attack yet */
  readonly expansionFreeBytes: number;
  /** Bytes on disk per uncompressed one: a file of one byte takes 1024 of them and a block of 4096 */
  readonly spread: number;
  /** An image may take so much more than that, for files with holes and names that are given again and again */
  readonly spreadFreeBytes: number;
  /** Memory for what is kept of all files until they are written: names, attributes, where the contents are */
  readonly metadataBytes: number;
  /** Names looked up on the way to those of entries, symlinks followed, and names that opaque marks go through */
  readonly lookups: number;
}

export const defaultLimits: ConversionLimits = {
  entries: 2_000_000,
  streamBytes: 512 * 2 ** 30,
  fileBytes: 2 ** 44 - 4096,
  expansion: 200,
  expansionFreeBytes: 8 * 2 ** 30,
  spread: 4,
  spreadFreeBytes: 2 ** 30,
  // Some 1,200,000 files with names of ten bytes, 1,000,000 with names of thirty: with it the engine stays below 250 MB.
  metadataBytes: 104 * 2 ** 20,
  // As many entries as there may be, each 25 names deep. Half a minute, where a chain of symlinks could ask for hours.
  lookups: 50_000_000,
};

/** Counts what a conversion used, and refuses what goes beyond the limits. */
export class ConversionBudget {
  readonly limits: ConversionLimits;
  entries = 0;
  streamBytes = 0;
  #excessBytes = 0;

  constructor(limits: ConversionLimits) {
    this.limits = limits;
  }

  addEntry(fileBytes: number): void {
    const { limits } = this;
    if (++this.entries > limits.entries)
      throw new LayerRefusal(`takes the image over ${limits.entries} entries`);
    if (fileBytes > limits.fileBytes)
      throw new LayerRefusal(`has ${fileBytes} bytes, more than a file can have`);
  }

  /** Checks a layer that unpacked to `bytes` from `compressedBytes` so far. */
  checkExpansion(bytes: number, compressedBytes: number): void {
    const { expansion, expansionFreeBytes } = this.limits;
    if (this.#excessBytes + bytes - expansion * compressedBytes > expansionFreeBytes) {
      throw new LayerRefusal(`unpacks to more than ${expansion} times its compressed size`);
    }
  }

  /** Ends a layer that unpacked to `bytes`: what was too much of it is not there for the next ones. */
  endLayer(bytes: number, compressedBytes: number): void {
    this.#excessBytes += Math.max(0, bytes - this.limits.expansion * compressedBytes);
  }

  /** Checks an image that takes so many bytes on disk so far. */
  checkSpread(diskBytes: number): void {
    const { spread, spreadFreeBytes } = this.limits;
    if (diskBytes > spread * this.streamBytes + spreadFreeBytes) {
      throw new LayerRefusal(`makes the image take more than ${spread} times the bytes of its layers`);
    }
  }

  addStreamBytes(count: number): void {
    this.streamBytes += count;
    if (this.streamBytes > this.limits.streamBytes) {
      throw new LayerRefusal(`takes the image over ${this.limits.streamBytes} bytes`);
    }
  }
}
