import type { Readable } from 'node:stream';

/** What the binary carries, by file name. Names ending in `.zst` are stored compressed. */
export const assetNames = [
  'better_sqlite3.node',
  'vmlinux.zst',
  'modules.cpio',
  'toolbox.cpio.zst',
  'base.tar.zst',
  'git-toolbox.tar.zst',
  'manifest.json',
] as const;

export type AssetName = (typeof assetNames)[number];

/** The files embedded in the binary. */
export interface Assets {
  /** Identifies the whole set, and with it the directory they are unpacked to */
  readonly buildId: string;
  /** Unpacks an asset into the cache once (decompressed, read-only) and returns the path; later calls find it there */
  file(name: AssetName): Promise<string>;
  /** Streams an asset, decompressed */
  open(name: AssetName): Readable;
}
