import { execFileSync } from 'node:child_process';
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setInterval } from 'node:timers';
import { expect, test } from 'vitest';
import { layerTar } from '../../../../src/engine/images/export/layer-tar.ts';
import { Ext4Reader } from '../../../../src/engine/images/ext4-reader/ext4-reader.ts';
import { readFactsOfFile } from '../../../../src/engine/images/ext4-reader/rootfs-facts.ts';
import { sortedNames } from '../../../../src/engine/images/ext4-reader/sorted-names.ts';
import { walkFilesystem } from '../../../../src/engine/images/ext4-reader/walk.ts';
import { debugfs, tempDirectory } from '../layers/image-inspector.ts';

const blockBytes = 4096;
const nameBytes = 12;

/** Blocks of a directory that are full of names of four bytes, all of them for one inode. */
function directoryBlocks(count: number): Buffer {
  const blocks = Buffer.alloc(count * blockBytes);
  let number = 0;
  for (let at = 0; at < blocks.length; at += nameBytes) {
    // What is left of a block belongs to its last name.
    const isLast = (at % blockBytes) + 2 * nameBytes > blockBytes;
    blocks.writeUInt32LE(12, at);
    blocks.writeUInt16LE(isLast ? blockBytes - (at % blockBytes) : nameBytes, at + 4);
    blocks.writeUInt16LE(0x0104, at + 6);
    blocks.write((number++).toString(36).padStart(4, '0'), at + 8);
    if (isLast) at += blockBytes - (at % blockBytes) - nameBytes;
  }
  return blocks;
}

/** A filesystem without anything but /bin, whose content is this, changed by requests of debugfs. */
function filesystem(directory: string, bin: Buffer, requests: readonly string[]): string {
  const tree = join(directory, 'tree');
  mkdirSync(tree);
  writeFileSync(join(tree, 'bin'), bin);
  const image = join(directory, 'image');
  const format = ['-q', '-t', 'ext4', '-b', String(blockBytes), '-O', '^extents,^64bit,^metadata_csum'];
  execFileSync('mke2fs', [...format, '-d', tree, image, '64M'], { stdio: 'pipe' });
  for (const request of ['sif bin mode 040755', ...requests])
    execFileSync('debugfs', ['-w', '-R', request, image], { stdio: 'pipe' });
  return image;
}

async function tarBytes(image: string): Promise<number> {
  let bytes = 0;
  for await (const chunk of layerTar(image)) bytes += chunk.length;
  return bytes;
}

test('a directory of millions of names is not held in memory, whoever looks into it', async () => {
  using directory = tempDirectory();
  const image = filesystem(directory.path, directoryBlocks(8192), []);
  const before = process.memoryUsage().heapUsed;
  let peak = before;
  let turns = 0;
  const sampler = setInterval(() => {
    turns++;
    peak = Math.max(peak, process.memoryUsage().heapUsed);
  }, 1);
  try {
    expect(await readFactsOfFile(image)).toEqual({ osRelease: {}, hasShell: false });
    expect(peak - before).toBeLessThan(150 * 2 ** 20);
    await expect(tarBytes(image)).rejects.toThrow(
      /has a directory \(inode \d+\) with more than 1000000 names/,
    );
    expect(peak - before).toBeLessThan(300 * 2 ** 20);
    expect(turns).toBeGreaterThan(10);
  } finally {
    clearInterval(sampler);
  }
});

test('a directory that has one block again and again is refused', async () => {
  using directory = tempDirectory();
  const image = filesystem(directory.path, directoryBlocks(3), []);
  const [first] = debugfs(image, 'blocks bin').split(' ');
  for (const block of [1, 2])
    execFileSync('debugfs', ['-w', '-R', `sif bin block[${block}] ${first}`, image], { stdio: 'pipe' });
  const why = /has a directory \(inode \d+\) with a block that it has twice/;
  await expect(readFactsOfFile(image)).rejects.toThrow(why);
  await expect(tarBytes(image)).rejects.toThrow(why);
});

test('a directory of gigabytes is refused before anything of it is read', async () => {
  using directory = tempDirectory();
  const image = filesystem(directory.path, directoryBlocks(1), ['sif bin size 0xfffff000']);
  await expect(readFactsOfFile(image)).rejects.toThrow('of 4294963200 bytes');
});

test('a filesystem has no more entries than may be walked through', async () => {
  using directory = tempDirectory();
  const image = filesystem(directory.path, directoryBlocks(1), []);
  const reader = await Ext4Reader.open(image);
  const walk = async (limits: Parameters<typeof walkFilesystem>[1]): Promise<void> => {
    for await (const { path } of walkFilesystem(reader, limits)) void path;
  };
  try {
    await expect(walk({ entries: 100, entriesOfDirectory: 1000 })).rejects.toThrow('more than 100 entries');
    await expect(walk({ entries: 1000, entriesOfDirectory: 100 })).rejects.toThrow('more than 100 names');
  } finally {
    await reader.close();
  }
});

test('names are sorted as one sort would sort them', async () => {
  const names = Array.from({ length: 20_000 }, (_, index) => ((index * 7919) % 20_011).toString(36));
  const sorted = await sortedNames(names.map((name) => ({ name, inode: 12 })));
  expect(sorted.map(({ name }) => name)).toEqual(names.toSorted());
  expect(await sortedNames([])).toEqual([]);
});
