import { gzipSync, zstdCompressSync } from 'node:zlib';
import { gzipBomb, manyFiles, sameFile, zstdBomb, zstdRun } from '../bombs.ts';
import { directory, encodeEntry, file, symlink, tarOf, type EntrySpec } from '../tar-builder.ts';
import { numbered, type HostileLayer } from './hostile-layer.ts';

const gib = 2 ** 30;

/** Streams that end too early, too late, or are no streams of their kind. */
export const streams: readonly HostileLayer[] = [
  { title: 'not a tar at all', bytes: () => Buffer.alloc(4096, 'banger'), error: /not a tar file/ },
  { title: 'an empty layer', bytes: () => Buffer.alloc(0) },
  {
    title: 'an end in the middle of a file',
    bytes: () => tarOf([file('a', 'x'.repeat(5000))]).subarray(0, 3000),
    error: /is truncated/,
    entry: 'a',
  },
  {
    title: 'an end in the middle of a header',
    bytes: () => tarOf([file('a'), file('b')]).subarray(0, 1300),
    error: /is truncated/,
  },
  { title: 'no end mark', bytes: () => tarOf([file('a')]).subarray(0, 1024) },
  {
    title: 'half an end mark, and then more',
    bytes: () => Buffer.concat([encodeEntry(file('a')), Buffer.alloc(512), encodeEntry(file('b'))]),
    error: /half an end mark/,
  },
  {
    title: 'garbage behind the end',
    bytes: () => Buffer.concat([tarOf([file('a')]), Buffer.alloc(100_000, 'x')]),
  },
  {
    title: 'a second tar behind the end',
    bytes: () => Buffer.concat([tarOf([file('a')]), tarOf([file('b')])]),
  },
  {
    title: 'gzip cut short',
    bytes: () => cut(gzipSync(noise()), 20),
    error: /cannot be decompressed|truncated/,
  },
  {
    title: 'gzip with a damaged middle',
    bytes: () => gzipSync(noise()).fill(0x55, 20_000, 20_064),
    error: /cannot be decompressed/,
  },
  {
    title: 'gzip with garbage behind it',
    bytes: () => Buffer.concat([gzipSync(tarOf([file('a')])), Buffer.alloc(5000, 'x')]),
    error: /cannot be decompressed|garbage/,
  },
  {
    title: 'zstd cut short',
    bytes: () => cut(zstdCompressSync(noise()), 20),
    error: /cannot be decompressed|truncated/,
  },
  { title: 'zstd that wants 2 GiB of window', bytes: zstdWideWindow, error: /cannot be decompressed/ },
  { title: 'bzip2', bytes: () => Buffer.from('BZh91AY&SY1234567890'), error: /compressed with bzip2/ },
  { title: 'xz', bytes: () => Buffer.from('fd377a585a0000000000', 'hex'), error: /has damaged xz data/ },
];

/** Small layers that unpack to more than anybody has. */
export const bombs: readonly HostileLayer[] = [
  {
    title: 'gzip of 1000:1, in many members',
    bytes: () => gzipBomb(24 * gib),
    error: /unpacks to|over|No space/,
    entry: 'zeros',
    isSlow: true,
    limits: { expansionFreeBytes: gib },
  },
  {
    title: 'zstd of 30000:1',
    bytes: () => zstdBomb(24 * gib),
    error: /unpacks to|over|No space/,
    entry: 'zeros',
    isSlow: true,
    limits: { expansionFreeBytes: gib },
  },
  {
    title: 'a million empty gzip members',
    bytes: () =>
      Buffer.concat([gzipSync(tarOf([file('a')])), Buffer.alloc(20 * 1_000_000, gzipSync(Buffer.alloc(0)))]),
    isSlow: true,
  },
  {
    title: 'a million empty zstd frames, and as many that are to be skipped',
    bytes: () =>
      Buffer.concat([
        zstdCompressSync(tarOf([file('a')])),
        Buffer.alloc(9_000_000, Buffer.from('28b52ffd0050010000', 'hex')),
        Buffer.alloc(8_000_000, Buffer.from('502a4d1800000000', 'hex')),
      ]),
    isSlow: true,
  },
  { title: 'gzip inside gzip', bytes: () => gzipSync(gzipSync(noise())), error: /not a tar file/ },
  {
    title: 'more files in one directory than there is memory for',
    bytes: () => manyFiles(250_000),
    error: /takes names and attributes of the image over 16 MiB of memory/,
    entry: 'many/',
    isSlow: true,
    limits: { metadataBytes: 16 * 2 ** 20 },
  },
  {
    title: 'a file of single bytes between holes, again and again',
    bytes: () => zstdCompressSync(tarOf(numbered(40).map(() => pieces('same', 4000)))),
    error: /makes the image take more than 4 times the bytes of its layers/,
    limits: { spreadFreeBytes: 64 * 2 ** 20 },
    entry: 'same',
    isSlow: true,
    diskBytes: 128 * 2 ** 20,
  },
  {
    title: 'empty directories, each of which takes a block',
    bytes: () => zstdCompressSync(tarOf(numbered(60_000).map((n) => directory(`many/${n}`)))),
    error: /makes the image take more than 4 times the bytes of its layers/,
    limits: { spreadFreeBytes: 64 * 2 ** 20 },
    entry: 'many/',
    isSlow: true,
    diskBytes: 0,
  },
  {
    title: 'symlinks whose targets take a block each',
    bytes: () => zstdCompressSync(tarOf(numbered(60_000).map((n) => symlink(`many/${n}`, 'x'.repeat(60))))),
    error: /makes the image take more than 4 times the bytes of its layers/,
    limits: { spreadFreeBytes: 64 * 2 ** 20 },
    entry: 'many/',
    isSlow: true,
    diskBytes: 0,
  },
  {
    title: 'one file ten million times',
    bytes: () => sameFile(10_000_000),
    error: /takes the image over 300000 entries/,
    limits: { entries: 300_000 },
    entry: 'same',
    isSlow: true,
  },
];

/** A file of so many pieces of one byte, each with a hole behind it that leaves it a block of its own. */
function pieces(path: string, count: number): EntrySpec {
  const map = [count, ...numbered(count).flatMap((n) => [n * 8192, 1])].join('\n');
  const data = `${map}\n`.padEnd(Math.ceil((map.length + 1) / 512) * 512, '\0') + 'x'.repeat(count);
  const realSize = String(count * 8192);
  return file('sparse', data, {
    pax: {
      'GNU.sparse.major': '1',
      'GNU.sparse.minor': '0',
      'GNU.sparse.name': path,
      'GNU.sparse.realsize': realSize,
    },
  });
}

/** A frame whose header asks the decoder for a window of 2 GiB. */
function zstdWideWindow(): Buffer {
  return Buffer.concat([Buffer.from('28b52ffd00a8', 'hex'), zstdRun(1024, 1)]);
}

/** A tar that does not compress. */
function noise(): Buffer {
  const data = Buffer.alloc(100_000);
  let state = 1;
  for (let offset = 0; offset < data.length; offset++) {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    data[offset] = state >>> 24;
  }
  return tarOf([file('noise', data)]);
}

function cut(data: Buffer, bytes: number): Buffer {
  return data.subarray(0, data.length - bytes);
}
