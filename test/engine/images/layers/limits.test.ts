import { execFileSync } from 'node:child_process';
import { readdirSync, statSync } from 'node:fs';
import path from 'node:path';
import { gzipSync } from 'node:zlib';
import { expect, test } from 'vitest';
import { BlockAllocator } from '../../../../src/engine/images/ext4/block-allocator.ts';
import { implicitDirectory } from '../../../../src/engine/images/ext4/file-tree.ts';
import { defaultLimits } from '../../../../src/engine/images/layers/conversion-limits.ts';
import { RootfsTree } from '../../../../src/engine/images/layers/rootfs-tree.ts';
import { directory, file, symlink, tarOf, type EntrySpec } from '../../../support/tar-builder.ts';
import { convert, debugfs, expectClean, failure, mountObstacle, tempDirectory } from './image-inspector.ts';

test('caps stop what is meant to exhaust the host', async () => {
  const many = Array.from({ length: 4 }, (_, index) => file(`f${index}`));
  expect(await failure([many], { limits: { entries: 3 } })).toMatch(/over 3 (files|entries)/);
  expect(await failure([[file('a/b/c/d/e/f/g/h/i/j/k/l')]], { limits: { entries: 10 } })).toContain(
    'over 10 files',
  );
  expect(await failure([[file('a', 'x'.repeat(5000))]], { limits: { streamBytes: 4096 } })).toContain(
    'over 4096 bytes',
  );
  expect(await failure([[file('a', 'x'.repeat(5000))]], { limits: { fileBytes: 4096 } })).toContain(
    'has 5000 bytes',
  );
  expect(await failure([many], { limits: { metadataBytes: 5 } })).toContain('names and attributes');
});

test('what a layer replaces or removes is not held against the image', async () => {
  using temp = tempDirectory();
  const directories = Array.from({ length: 20 }, (_, index) => `a-directory-with-a-long-name-${index}`);
  const layer = directories.flatMap((name) => [
    directory(name),
    file(`${name}/file`),
    symlink(`${name}/l`, 'x'),
  ]);
  const remove = directories.map((name) => file(`.wh.${name}`, ''));
  const limits = { metadataBytes: 12_000 };
  const layers = [layer, layer, remove, layer, layer, remove, layer];
  expectClean((await convert(temp.path, layers, { limits })).image);
  expect(
    await failure([[...layer, ...layer.map((entry) => ({ ...entry, path: `other/${entry.path}` }))]], {
      limits,
    }),
  ).toContain('over 1 MiB');
});

test('a file takes a hundred bytes of memory while its image is made, and none of V8’s heap', () => {
  using temp = tempDirectory();
  const script = path.join(import.meta.dirname, '../../../support/convert-many.ts');
  // An object for each would need some 40 MB more.
  const argv = ['--max-old-space-size=24', '--no-warnings', script, temp.path, '120000', '100'];
  const names = execFileSync(process.execPath, argv, { encoding: 'utf8', stdio: 'pipe' });
  // The directories, and the root.
  expect(names).toBe(`${120_000 + 120 + 1}\n`);
  expectClean(path.join(temp.path, 'rootfs.ext4'));
});

test('a layer that unpacks to far more than it is gets refused, one of a few zeros does not', async () => {
  const limits = { expansion: 200, expansionFreeBytes: 2 ** 20 };
  const bomb = gzipSync(tarOf([file('zeros', Buffer.alloc(8 * 2 ** 20))]));
  expect(await failure([bomb], { limits })).toBe(
    'Entry "zeros" of layer "test" unpacks to more than 200 times its compressed size',
  );
  using temp = tempDirectory();
  const zeros = gzipSync(tarOf([file('zeros', Buffer.alloc(2 ** 19))]));
  expectClean((await convert(temp.path, [zeros], { limits })).image);
});

test('what may unpack to more than it should is for all layers of an image together', async () => {
  const limits = { expansion: 200, expansionFreeBytes: 2 ** 20 };
  const zeros = gzipSync(tarOf([file('zeros', Buffer.alloc(700_000))]));
  using temp = tempDirectory();
  expectClean((await convert(temp.path, [zeros], { limits })).image);
  expect(await failure([zeros, zeros], { limits })).toContain('unpacks to more than 200 times');
});

test('long zeros take no room on the disk, and read as zeros', async () => {
  using temp = tempDirectory();
  const data = Buffer.alloc(8 * 2 ** 20);
  data.write('begin');
  data.write('end', data.length - 3);
  const { image } = await convert(temp.path, [[file('zeros', data), file('after', 'a')]]);
  expectClean(image);
  expect(statSync(image).blocks * 512).toBeLessThan(4 * 2 ** 20);
  expect(debugfs(image, 'cat zeros')).toBe(data.toString('latin1'));
});

const spreading: readonly [string, (index: number) => EntrySpec][] = [
  ['directories', (index) => directory(`many/${index}`)],
  ['long symlinks', (index) => symlink(`many/${index}`, 'x'.repeat(60))],
  [
    'attributes that take a block',
    (index) => file(`many/${index}`, '', { pax: { 'SCHILY.xattr.user.a': `${index}`.padEnd(200, 'v') } }),
  ],
];

test.each(spreading)('what %s will take on disk is known before they are written', async (_, entry) => {
  using temp = tempDirectory();
  const count = 3000;
  const many = Array.from({ length: count }, (_unused, index) => entry(index));
  const { image, contentBytes } = await convert(temp.path, [many]);
  const isOfXattrs = many[0]!.pax !== undefined;
  // A block for each, and those of the directory that has them.
  expect(contentBytes / 4096).toBeGreaterThan(count);
  expect(contentBytes / 4096).toBeLessThan(count + 40);
  expect(statSync(image).blocks * 512).toBeGreaterThan(contentBytes);
  expectClean(image);

  const limits = { spread: isOfXattrs ? 2 : 4, spreadFreeBytes: 2 ** 20 };
  expect(await failure([many], { limits })).toMatch(
    /^Entry "many\/\d+\/?" of layer "test" makes the image take more than/,
  );
});

const largeXattrs = new Map([['user.large', Buffer.alloc(3000)]]);

test('no room is wished for what a later layer takes away', () => {
  const tree = new RootfsTree({ limits: defaultLimits, allocator: new BlockAllocator() });
  const before = tree.files.pendingBytes;
  const node = { ...implicitDirectory, kind: 'symlink', target: 'x'.repeat(100) } as const;
  for (let round = 0; round < 2; round++) {
    tree.put(['many', 'link'], node);
    tree.put(['many', 'file'], { ...node, kind: 'file', size: 0, place: 0, xattrs: largeXattrs });
    tree.put(['many', 'file'], { ...node, kind: 'directory', xattrs: largeXattrs });
    tree.endLayer();
    expect(tree.files.pendingBytes).toBeGreaterThan(before + 4 * 4096);
    tree.whiteout(['many']);
    tree.endLayer();
    expect(tree.files.pendingBytes).toBe(before);
  }
});

test.for(spreading)(
  'a disk that is too small for %s is told before it is full',
  async ([, entry], { skip }) => {
    const obstacle = mountObstacle();
    if (obstacle !== undefined) skip(obstacle);
    using temp = tempDirectory();
    execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=8m', 'tmpfs', temp.path]);
    try {
      const many = Array.from({ length: 3000 }, (_unused, index) => entry(index));
      await expect(convert(temp.path, [many])).rejects.toThrow(
        /^There is no room for the image: it takes 1\d MiB or more, and 8 MiB are free at/,
      );
    } finally {
      execFileSync('umount', [temp.path]);
    }
  },
);

test('attributes that do not fit a block are refused with the entry they came with', async () => {
  const pax = { 'SCHILY.xattr.user.large': 'v'.repeat(4100) };
  expect(await failure([[file('etc/a', '', { pax })]])).toBe(
    'Entry "etc/a" of layer "test" has extended attributes of more than 4096 bytes',
  );
});

test('a full disk is named, and given back', async ({ skip }) => {
  const obstacle = mountObstacle();
  if (obstacle !== undefined) skip(obstacle);
  using temp = tempDirectory();
  execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=4m', 'tmpfs', temp.path]);
  try {
    const tooMuch = convert(temp.path, [[file('a', Buffer.alloc(20 * 1024 * 1024, 'x'))]]);
    await expect(tooMuch).rejects.toThrow(
      /^There is no room for the image: it takes 2\d MiB or more, and \d MiB are free at ".*work"$/,
    );
    expect(readdirSync(path.join(temp.path, 'work'))).toEqual([]);
  } finally {
    execFileSync('umount', [temp.path]);
  }
});
