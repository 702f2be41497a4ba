import fc from 'fast-check';
import { expect, test } from 'vitest';
import type { Stretch } from '../../../../src/engine/images/ext4/stretches.ts';
import type { TarEntry } from '../../../../src/engine/images/layers/tar-entry.ts';
import { TarReader } from '../../../../src/engine/images/layers/tar-reader.ts';
import {
  directory,
  encodeEntry,
  type EntrySpec,
  file,
  hardlink,
  paxRecord,
  tarOf,
  withChecksum,
} from '../../../support/tar-builder.ts';

interface ReadEntry extends Omit<TarEntry, 'stretches'> {
  readonly stretches: readonly Stretch[];
  readonly data: string;
}

/** Chunks that come in one piece of memory, as they do from a decompressor. */
async function* inPlace(tar: Buffer, chunkSize: number): AsyncGenerator<Buffer> {
  const memory = Buffer.alloc(chunkSize);
  for (let from = 0; from < tar.length; from += chunkSize) {
    yield memory.subarray(0, tar.copy(memory, 0, from));
    memory.fill(0xff);
    await Promise.resolve();
  }
}

async function read(tar: Buffer, chunkSize = tar.length): Promise<ReadEntry[]> {
  const reader = new TarReader(inPlace(tar, chunkSize));
  const entries: ReadEntry[] = [];
  for (let entry = await reader.next(); entry; entry = await reader.next()) {
    const pieces: Buffer[] = [];
    await reader.body(async (_, data) => void pieces.push(Buffer.from(data)));
    const data = Buffer.concat(pieces).toString('latin1');
    entries.push({ ...entry, stretches: [...entry.stretches], data });
  }
  return entries;
}

async function readOne(spec: EntrySpec): Promise<ReadEntry> {
  const [entry] = await read(tarOf([spec, file('next', 'still here')]));
  if (!entry) throw new Error('nothing was read');
  return entry;
}

const raw = (...parts: readonly Buffer[]): Buffer => Buffer.concat([...parts, Buffer.alloc(1024)]);

test('every cut of the stream into chunks reads the same', async () => {
  const tar = tarOf([
    file('a', 'x'.repeat(1000)),
    directory('d'),
    file(`d/${'l'.repeat(150)}`, ''),
    hardlink('h', 'a'),
  ]);
  const whole = await read(tar);
  expect(whole.map(({ path }) => path)).toEqual(['a', 'd', `d/${'l'.repeat(150)}`, 'h']);
  await fc.assert(
    fc.asyncProperty(fc.integer({ min: 1, max: 2000 }), async (size) => {
      expect(await read(tar, size)).toEqual(whole);
    }),
    { numRuns: 30 },
  );
});

test('extended headers replace what the header says; the last one of a kind counts', async () => {
  const pax: [string, string][] = [
    ['path', 'wrong'],
    ['path', 'sp ace=and\nnewline'],
    ['uid', '4294967295'],
    ['gid', '70000'],
    ['mtime', '1600000000.123456789012'],
    ['SCHILY.xattr.user.binary', '\0\n=\xff'],
    ['LIBARCHIVE.xattr.user.other', Buffer.from('o').toString('base64')],
    ['comment', ''],
  ];
  const entry = await readOne(file('short', 'data', { pax }));
  expect(entry).toMatchObject({ path: 'sp ace=and\nnewline', uid: 4294967295, gid: 70000, data: 'data' });
  expect(entry.mtime).toEqual({ seconds: 1600000000, nanoseconds: 123456789 });
  expect(entry.xattrs?.get('user.binary')?.toString('latin1')).toBe('\0\n=\xff');
  expect(entry.xattrs?.get('user.other')?.toString()).toBe('o');
});

test.each([
  ['-1.25', -2, 750_000_000],
  ['-0.5', -1, 500_000_000],
  ['-7', -7, 0],
  ['0.000000001', 0, 1],
])('the time %s counts its nanoseconds forwards', async (mtime, seconds, nanoseconds) => {
  expect((await readOne(file('a', '', { pax: { mtime } }))).mtime).toEqual({ seconds, nanoseconds });
});

test('a size in an extended header replaces the one in the header', async () => {
  const entries = await read(tarOf([file('a', 'four', { size: 0, pax: { size: '4' } }), file('b')]));
  expect(entries.map(({ data }) => data)).toEqual(['four', 'b']);
});

test('numbers in base 256 may be large, and negative where that means something', async () => {
  expect(await readOne(file('a', '', { uid: 2 ** 31, mtime: -5 }))).toMatchObject({
    uid: 2 ** 31,
    mtime: { seconds: -5 },
  });
  await expect(readOne(file('a', '', { uid: -1 }))).rejects.toThrow('has the owner -1');
  await expect(readOne(file('a', '', { size: -1 }))).rejects.toThrow('has a negative size');
  await expect(readOne(file('a', '', { pax: { size: '-1' } }))).rejects.toThrow('has a negative size');
  await expect(readOne(file('a', '', { pax: { size: '99999999999999999999' } }))).rejects.toThrow(
    'with size "9',
  );
});

test('GNU long names and links apply to the next entry only', async () => {
  const long = 'n'.repeat(300);
  const tar = raw(
    encodeEntry({ path: '././@LongLink', type: 'L', data: `${long}\0` }),
    encodeEntry({ path: '././@LongLink', type: 'K', data: `${long}-target\0` }),
    encodeEntry({ path: 'short', type: '2', linkPath: 'short' }),
    encodeEntry(file('b')),
  );
  const entries = await read(tar);
  expect(entries[0]).toMatchObject({ type: 'symlink', path: long, linkPath: `${long}-target` });
  expect(entries[1]).toMatchObject({ path: 'b', linkPath: '' });
});

test('global headers are defaults for all that follow', async () => {
  const records = Buffer.concat([paxRecord('uid', '12'), paxRecord('comment', 'x')]);
  const tar = raw(
    encodeEntry({ path: 'g', type: 'g', data: records }),
    encodeEntry(file('a')),
    encodeEntry(file('b', '', { pax: { uid: '13' } })),
  );
  expect((await read(tar)).map(({ uid }) => uid)).toEqual([12, 13]);
});

test('types without contents have no data, whatever their size says', async () => {
  const entries = await read(
    tarOf([{ ...hardlink('h', 'a'), size: 500 }, { ...directory('d'), size: 77 }, file('b')]),
  );
  expect(entries.map(({ path }) => path)).toEqual(['h', 'd', 'b']);
});

test('a file of the old kind whose name ends in a slash is a directory', async () => {
  expect((await readOne(file('d/', ''))).type).toBe('directory');
});

test('the ustar prefix is part of the name, but not what GNU has in its place', async () => {
  const block = encodeEntry(file('name', ''));
  block.write('prefix', 345, 'latin1');
  expect((await read(raw(withChecksum(block))))[0]?.path).toBe('prefix/name');
  block.write('ustar  \0', 257, 'latin1');
  expect((await read(raw(withChecksum(block))))[0]?.path).toBe('name');
});

test('the archive ends at its mark, and may end without one', async () => {
  const tar = tarOf([file('a')]);
  const names = async (data: Buffer): Promise<string[]> => (await read(data)).map(({ path }) => path);
  expect(await names(tar.subarray(0, tar.length - 1024))).toEqual(['a']);
  expect(await names(tar.subarray(0, tar.length - 512))).toEqual(['a']);
  expect(await names(Buffer.concat([tar, tarOf([file('b')])]))).toEqual(['a']);
  expect(await names(Buffer.concat([tar, Buffer.from('garbage')]))).toEqual(['a']);
  expect(await names(Buffer.alloc(0))).toEqual([]);
});

test('a tar cut anywhere inside an entry is refused', async () => {
  const tar = tarOf([file('a', 'x'.repeat(600), { pax: { mtime: '1.5' } })]);
  for (const length of [1, 511, 600, 1024, 1535, 1536, 1600, 2100, 2559]) {
    await expect(read(tar.subarray(0, length))).rejects.toThrow(
      /is truncated|is not a tar file|ends after an extended header/,
    );
  }
});

test.each<[string, Buffer, string]>([
  ['no tar', Buffer.alloc(512, 'x'), 'wrong header checksum'],
  [
    'half an end mark',
    Buffer.concat([Buffer.alloc(512), encodeEntry(file('a'))]),
    'data after half an end mark',
  ],
  ['an unknown type', raw(encodeEntry(file('a', '', { type: 'Z' }))), 'is of unknown type "Z"'],
  ['a volume of several', raw(encodeEntry(file('a', '', { type: 'M' }))), 'of unknown type "M"'],
  [
    'a huge extended header',
    raw(encodeEntry({ path: 'x', type: 'x', size: 2 ** 30 })),
    'of 1073741824 bytes',
  ],
  [
    'a bad record',
    raw(encodeEntry({ path: 'x', type: 'x', data: '99 path=a\n' })),
    'damaged extended header',
  ],
  [
    'a record without end',
    raw(encodeEntry({ path: 'x', type: 'x', data: '9 path=ab' })),
    'damaged extended header',
  ],
  ['a bad time', tarOf([file('a', '', { pax: { mtime: 'now' } })]), 'with mtime "now"'],
])('%s is refused', async (_, tar, reason) => {
  await expect(read(tar)).rejects.toThrow(reason);
});

test('a header with one wrong bit is refused', async () => {
  const tar = tarOf([file('a')]);
  tar.writeUInt8(tar.readUInt8(0) ^ 1, 0);
  await expect(read(tar)).rejects.toThrow('wrong header checksum');
});

const sparse = (map: string, size: string, data: string): EntrySpec =>
  file('a', data, { pax: { 'GNU.sparse.map': map, 'GNU.sparse.size': size, 'GNU.sparse.name': 'real' } });

test('a sparse file has its stretches, its size and its own name', async () => {
  expect(await readOne(sparse('10,2,5000,3,9000,0', '9000', 'abcde'))).toMatchObject({
    path: 'real',
    size: 9000,
    stretches: [
      { offset: 10, length: 2 },
      { offset: 5000, length: 3 },
    ],
    data: 'abcde',
  });
});

test.each([
  ['10,2,5,3', '9000', 'damaged map'],
  ['10,2,5000', '9000', 'damaged map'],
  ['10,5', '12', 'damaged map'],
  ['10,-5', '12', 'damaged map'],
  ['0,4', '12', 'does not match its data'],
])('the sparse map %s of %s bytes is refused', async (map, size, reason) => {
  await expect(readOne(sparse(map, size, 'abcde'))).rejects.toThrow(reason);
});
