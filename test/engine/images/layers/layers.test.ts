import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { Readable } from 'node:stream';
import { gzipSync, zstdCompressSync } from 'node:zlib';
import { expect, test } from 'vitest';
import { parseOsRelease } from '../../../../src/engine/images/layers/rootfs-facts.ts';
import {
  contents,
  convert,
  debugfs,
  expectClean,
  failure,
  layerOf,
  list,
  tempDirectory,
} from './image-inspector.ts';
import { filter } from '../../../support/kernels.ts';
import { directory, type EntrySpec, file, hardlink, symlink, tarOf } from '../../../support/tar-builder.ts';

/** Converts layers and returns the names below `where`, after e2fsck had nothing to say. */
async function namesAfter(layers: readonly (readonly EntrySpec[])[], where = '/'): Promise<string[]> {
  using temp = tempDirectory();
  const { image } = await convert(temp.path, layers);
  expectClean(image);
  return list(image, where);
}

test('no layers make an empty filesystem', async () => {
  expect(await namesAfter([])).toEqual([]);
});

test('a whiteout removes what lower layers have, whatever it is', async () => {
  const base = [directory('d'), file('d/a'), file('f'), symlink('l', 'd'), file('keep')];
  const layers = [base, [file('.wh.d', ''), file('.wh.f', ''), file('.wh.l', ''), file('.wh.nothing', '')]];
  expect(await namesAfter(layers)).toEqual(['keep']);
});

test('a whiteout leaves what its own layer puts there, before or after it', async () => {
  const base = [directory('d'), file('d/old'), directory('e'), file('e/old')];
  const upper = [file('d/new'), file('.wh.d', ''), file('.wh.e', ''), file('e/new')];
  expect(await namesAfter([base, upper], 'd')).toEqual(['new']);
  expect(await namesAfter([base, upper], 'e')).toEqual(['new']);
});

test('a directory made again under its whiteout has nothing of the old one', async () => {
  using temp = tempDirectory();
  const base = [directory('d', { mode: 0o700, uid: 5 }), file('d/old')];
  const { image } = await convert(temp.path, [base, [file('d/new'), file('.wh.d', '')]]);
  expect(debugfs(image, 'stat d')).toMatch(/Mode: +0755[\s\S]*User: +0/);
});

test('an opaque directory hides lower contents, wherever its mark stands among its siblings', async () => {
  const base = [directory('d'), file('d/a'), directory('d/sub'), file('d/sub/b')];
  for (const upper of [
    [directory('d'), file('d/.wh..wh..opq', ''), file('d/new')],
    [directory('d'), file('d/new'), file('d/.wh..wh..opq', '')],
  ]) {
    expect(await namesAfter([base, upper], 'd')).toEqual(['new']);
  }
});

test('an opaque root hides everything', async () => {
  expect(
    await namesAfter([
      [file('a'), directory('b')],
      [file('c'), file('.wh..wh..opq', '')],
    ]),
  ).toEqual(['c']);
});

test('files of AUFS itself are left out', async () => {
  expect(await namesAfter([[file('.wh..wh.plnk/1'), file('.wh..wh.aufs'), file('a')]])).toEqual(['a']);
});

test('a whiteout of nothing nameable is refused', async () => {
  for (const name of ['.wh.', 'd/.wh..', '.wh...'])
    expect(await failure([[file(name, '')]])).toMatch(/is a whiteout of/);
});

test('the upper type wins, without leftovers', async () => {
  using temp = tempDirectory();
  const { image } = await convert(temp.path, [
    [directory('a'), file('a/x'), file('b'), symlink('c', 'a'), directory('d'), file('d/y')],
    [file('a', 'now a file'), directory('b'), directory('c'), file('c/z'), symlink('d', 'b')],
    [file('a/deep/er', 'implicit')],
  ]);
  expectClean(image);
  expect(list(image, 'a')).toEqual(['deep']);
  expect(contents(image, 'a/deep/er')).toBe('implicit');
  expect(list(image, 'c')).toEqual(['z']);
  expect(debugfs(image, 'stat d')).toContain('Fast link dest: "b"');
});

test('an upper directory keeps what is in it and takes the new attributes', async () => {
  using temp = tempDirectory();
  const { image } = await convert(temp.path, [
    [directory('d'), file('d/a')],
    [directory('d', { mode: 0o1777, uid: 7 })],
  ]);
  expect(list(image, 'd')).toEqual(['a']);
  expect(debugfs(image, 'stat d')).toMatch(/Mode: +01777[\s\S]*User: +7/);
});

test('entries through symlinks land where the symlink leads inside the image', async () => {
  using temp = tempDirectory();
  const { image } = await convert(temp.path, [
    [
      directory('usr/lib'),
      symlink('lib', 'usr/lib'),
      symlink('abs', '/usr/lib'),
      symlink('up', '../../../usr'),
    ],
    [file('lib/a'), file('abs/b'), file('up/lib/c'), file('lib/.wh.nothing', '')],
    [file('lib/.wh.a', '')],
  ]);
  expectClean(image);
  expect(list(image, 'usr/lib')).toEqual(['b', 'c']);
  expect(debugfs(image, 'stat lib')).toContain('Fast link dest: "usr/lib"');
});

test('a loop of symlinks and a path through a linked file are refused', async () => {
  expect(await failure([[symlink('a', 'b'), symlink('b', 'a'), file('a/x')]])).toMatch(
    /^Entry "a\/x" of layer "test" goes through a loop/,
  );
  expect(await failure([[file('f'), symlink('l', 'f'), file('l/x')]])).toMatch(/not a directory/);
});

test.each([
  ['../x', 'has ".." in its path'],
  ['a/../../x', 'has ".." in its path'],
  ['a'.repeat(256), 'has a name of more than 255 bytes'],
  ['ab/'.repeat(1500), 'has a path of more than 4096 bytes'],
])('the path %.20s is refused', async (name, reason) => {
  expect(await failure([[file(name)]])).toContain(reason);
});

test('a zero byte in a path is refused', async () => {
  expect(await failure([[{ path: 'x', pax: { path: 'a\0b' } }]])).toContain('has a zero byte in its path');
});

test('absolute paths are inside the image', async () => {
  expect(await namesAfter([[file('/etc//./passwd')]], 'etc')).toEqual(['passwd']);
});

test('names are bytes: cases, forms of accents and broken UTF-8 stay apart', async () => {
  using temp = tempDirectory();
  const names = [
    'A',
    'a',
    Buffer.from('é').toString('latin1'),
    Buffer.from('e\u0301').toString('latin1'),
    'b\xff',
  ];
  const { image } = await convert(temp.path, [names.map((name) => file(name))]);
  expectClean(image);
  expect(list(image)).toHaveLength(5);
});

test('hard links reach lower layers, later entries and symlinks', async () => {
  using temp = tempDirectory();
  const { image } = await convert(temp.path, [
    [file('a', 'one'), symlink('s', 'target')],
    [hardlink('b', 'a'), hardlink('e', 'd'), hardlink('d', 'c'), file('c', 'later'), hardlink('t', '/s')],
    [file('.wh.a', '')],
  ]);
  expectClean(image);
  expect(list(image)).toEqual(['b', 'c', 'd', 'e', 's', 't']);
  expect(contents(image, 'b')).toBe('one');
  expect(contents(image, 'e')).toBe('later');
  expect(debugfs(image, 'stat c')).toContain('Links: 3');
  expect(debugfs(image, 'stat t')).toContain('Fast link dest: "target"');
});

test('hard links to nothing, to a directory and outside are refused', async () => {
  expect(await failure([[hardlink('a', 'gone')]])).toContain(
    'has the hard link "a" to "gone", which is not there',
  );
  expect(await failure([[hardlink('a', 'a')]])).toContain('which is not there');
  expect(await failure([[directory('d'), hardlink('a', 'd')]])).toContain(
    'is a hard link to the directory "d"',
  );
  expect(await failure([[hardlink('a', '../../etc/passwd')]])).toContain('has ".." in its path');
});

test('gzip of several members, zstd of several frames, xz of several streams and plain tars are recognised', async () => {
  using temp = tempDirectory();
  const tar = tarOf([file('a', 'x'.repeat(200_000))]);
  const [head, tail] = [tar.subarray(0, 70_000), tar.subarray(70_000)];
  const skippable = Buffer.concat([Buffer.from('502a4d1803000000', 'hex'), Buffer.from('abc')]);
  const gzip = Buffer.concat([gzipSync(head), gzipSync(tail)]);
  const zstd = Buffer.concat([
    skippable,
    zstdCompressSync(head),
    skippable,
    zstdCompressSync(tail),
    skippable,
  ]);
  const xz = Buffer.concat([filter(['xz', '-c'], head), filter(['xz', '-9', '-c'], tail)]);
  const { diffIds, image } = await convert(temp.path, [tar, gzip, zstd, xz]);
  const diffId = `sha256:${createHash('sha256').update(tar).digest('hex')}`;
  expect(diffIds).toEqual([diffId, diffId, diffId, diffId]);
  expectClean(image);
});

test('damaged, cut and foreign compression is refused', async () => {
  const tar = tarOf([
    file('a', Buffer.from(Array.from({ length: 50_000 }, (_, index) => (index * index) >> 5))),
  ]);
  const broken = gzipSync(tar);
  broken.fill(0x55, 200, 260);
  expect(await failure([broken])).toMatch(/^.*[lL]ayer "test" cannot be decompressed/);
  for (const compressed of [gzipSync(tar), zstdCompressSync(tar)]) {
    expect(await failure([compressed.subarray(0, compressed.length - 20)])).toMatch(
      /cannot be decompressed|is truncated/,
    );
  }
  expect(await failure([Buffer.from('fd377a585a00000000', 'hex')])).toContain('has damaged xz data');
  expect(await failure([Buffer.from('425a683931415926', 'hex')])).toContain('is compressed with bzip2');
});

test('a wrong diff id is refused', async () => {
  const layer = layerOf(tarOf([file('a')]), { diffId: `sha256:${'0'.repeat(64)}` });
  expect(await failure([layer])).toMatch(/^Layer "test" has the diff id sha256:/);
});

test('the error of a source is passed on as it is', async () => {
  const open = (): Readable =>
    Readable.from(
      (async function* () {
        yield tarOf([file('a')]).subarray(0, 512);
        throw new Error('the connection is gone');
      })(),
    );
  expect(await failure([{ open, label: 'test' }])).toBe('the connection is gone');
});

test('a cancelled conversion stops and leaves nothing', async () => {
  const abort = new AbortController();
  const onProgress = (): void => abort.abort();
  expect(await failure([[file('a', 'x'.repeat(500_000))]], { signal: abort.signal, onProgress })).toBe(
    'Cancelled',
  );
});

test('equal layers and seed give equal bytes; another seed does not', async () => {
  const layers = [
    [directory('d'), file('d/a'), symlink('l', 'x'.repeat(200))],
    [file('.wh.d', ''), file('b')],
  ];
  const digests: string[] = [];
  for (const seed of ['one', 'one', 'two']) {
    using temp = tempDirectory();
    const { image } = await convert(temp.path, layers, { seed });
    digests.push(createHash('sha256').update(readFileSync(image)).digest('hex'));
  }
  expect(digests[1]).toBe(digests[0]);
  expect(digests[2]).not.toBe(digests[0]);
});

test('the operating system and a shell are found through symlinks', async () => {
  using temp = tempDirectory();
  const release = 'ID=debian\nPRETTY_NAME="A \\"quoted\\" name"\n# no\nX=\'$y\'\n';
  const found = await convert(temp.path, [
    [
      file('usr/lib/os-release', release),
      symlink('etc/os-release', '../usr/lib/os-release'),
      symlink('bin', 'usr/bin'),
      symlink('usr/bin/sh', 'dash'),
      file('usr/bin/dash', '', { mode: 0o755 }),
    ],
  ]);
  expect(found.osRelease).toEqual({ ID: 'debian', PRETTY_NAME: 'A "quoted" name', X: '$y' });
  expect(found.hasShell).toBe(true);
});

test('an image without either, or with a loop in place of them, has none', async () => {
  using temp = tempDirectory();
  const found = await convert(temp.path, [[symlink('bin', 'bin'), symlink('etc/os-release', '/nowhere')]]);
  expect(found).toMatchObject({ osRelease: {}, hasShell: false });
});

test('an os-release of spaces costs no time, and a long name is cut', () => {
  const found = parseOsRelease(`A=${' '.repeat(500_000)}x\n  ID=y  \nPRETTY_NAME="${'z'.repeat(60_000)}"\n`);
  expect(found['ID']).toBe('y');
  expect(found['PRETTY_NAME']).toBe('z'.repeat(256));
});
