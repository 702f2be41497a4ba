import { gzipSync, zstdCompressSync } from 'node:zlib';
import type { ConversionLimits } from '../../src/engine/images/layers/conversion-limits.ts';
import { gzipBomb, manyFiles, sameFile, zstdBomb, zstdRun } from './bombs.ts';
import {
  directory,
  encodeEntry,
  type EntrySpec,
  file,
  hardlink,
  paxRecord,
  symlink,
  tarOf,
} from './tar-builder.ts';

/** A layer that is meant to hurt, and what must come of it. */
export interface HostileLayer {
  /** What it does, for the name of a test */
  readonly title: string;
  /** The layer as a registry serves it: plain, gzip or zstd. Made when called; at most some 25 MB */
  readonly bytes: () => Buffer;
  /** Part of the error. Absent: the layer is accepted, and does no harm */
  readonly error?: RegExp;
  /** The entry that the error names, as shown */
  readonly entry?: string;
  /** What a lower layer has, for those that need one */
  readonly below?: readonly EntrySpec[];
  /** Takes seconds to refuse, since it unpacks to gigabytes */
  readonly isSlow?: boolean;
  /** Instead of those that are the default, where these only take longer to reach */
  readonly limits?: Partial<ConversionLimits>;
}

const gib = 2 ** 30;
const plain =
  (...entries: readonly EntrySpec[]) =>
  (): Buffer =>
    tarOf(entries);

/** Paths and links that point out of the image, or into each other. */
const paths: readonly HostileLayer[] = [
  {
    title: 'a path with ".."',
    bytes: plain(file('a/../../x')),
    error: /has "\.\." in its path/,
    entry: 'a/../../x',
  },
  {
    title: 'a zero byte in a path',
    bytes: plain({ ...file('x'), pax: { path: 'a\0b' } }),
    error: /zero byte/,
    entry: 'a\\x00b',
  },
  {
    title: 'a path over PATH_MAX',
    bytes: plain(file('ab/'.repeat(1500))),
    error: /path of more than 4096 bytes/,
    entry: 'ab/ab/',
  },
  {
    title: 'a name over NAME_MAX',
    bytes: plain(file('n'.repeat(256))),
    error: /name of more than 255 bytes/,
    entry: 'nnnn',
  },
  { title: 'an absolute path', bytes: plain(file('/etc/passwd')) },
  { title: 'a drive-like path', bytes: plain(file('C:\\Windows\\x')) },
  { title: 'a path 2000 directories deep', bytes: plain(file(`${'d/'.repeat(2000)}f`)) },
  {
    title: 'a file through a symlink to the host',
    bytes: plain(symlink('out', '/../../../../tmp'), file('out/banger-escaped')),
  },
  {
    title: 'a file through a loop of symlinks',
    bytes: plain(symlink('a', 'b'), symlink('b', 'a'), file('a/x')),
    error: /loop of symlinks/,
    entry: 'a/x',
  },
  {
    title: 'hard links to nothing, each through 62,000 names',
    bytes: () => tarOf([...longWay(), ...numbered(40).map((n) => hardlink(`h${n}`, `way38/${n}`))]),
    // Twice for each: at the entry, and at the end of the layer.
    limits: { lookups: 40 * 2 * 65_000 },
    error: /has the hard link "h0" to "way38\/0", which is not there/,
  },
  {
    title: 'files, each through 62,000 names',
    bytes: () => tarOf([...longWay(), ...numbered(50).map((n) => file(`way38/${n}`))]),
    limits: { lookups: 3_000_000 },
    error: /takes the image over 3000000 names that have to be looked up/,
    entry: 'way38/48',
  },
  {
    title: 'a hard link out of the image',
    bytes: plain(hardlink('a', '../../etc/shadow')),
    error: /has "\.\." in its path/,
    entry: 'a',
  },
  {
    title: 'a hard link to nothing',
    bytes: plain(hardlink('a', 'etc/shadow')),
    error: /hard link "a" to "etc\/shadow", which is not there/,
  },
  { title: 'a hard link to itself', bytes: plain(hardlink('a', 'a')), error: /hard link "a" to "a"/ },
  {
    title: 'a hard link to a directory',
    bytes: plain(directory('d'), hardlink('a', 'd')),
    error: /hard link to the directory "d"/,
    entry: 'a',
  },
  {
    title: 'names that differ in case and in Unicode form',
    bytes: plain(file('A'), file('a'), file('\xc3\xa9'), file('e\xcc\x81')),
  },
];

/** Symlinks to symlinks, as many as may be followed, each as long as may be. */
function longWay(): EntrySpec[] {
  const detour = 'd/../'.repeat(810);
  return [
    directory('d'),
    symlink('way0', 'd'),
    ...numbered(38).map((n) => symlink(`way${n + 1}`, `${detour}way${n}`)),
  ];
}

function numbered(count: number): number[] {
  return Array.from({ length: count }, (_, index) => index);
}

/** Whiteouts that hide more than they may, or nothing at all. */
const whiteouts: readonly HostileLayer[] = [
  {
    title: 'a whiteout of the root',
    bytes: plain(file('.wh.', '')),
    error: /is a whiteout of ""/,
    entry: '.wh.',
  },
  {
    title: 'a whiteout of ".."',
    bytes: plain(file('d/.wh...', '')),
    error: /is a whiteout of "\.\."/,
    entry: 'd/.wh...',
  },
  { title: 'a whiteout of nothing', bytes: plain(file('.wh.nothing', '')) },
  {
    title: 'an opaque mark through a symlink',
    below: [directory('d'), file('d/a'), symlink('l', 'd')],
    bytes: plain(file('l/.wh..wh..opq', '')),
  },
  {
    title: 'opaque marks, each over all files of the layer',
    below: [file('below')],
    bytes: () =>
      tarOf([
        ...numbered(3000).map((n) => file(`d/${n}`, '')),
        ...numbered(2000).map(() => file('d/.wh..wh..opq', '')),
      ]),
    limits: { lookups: 1_000_000 },
    error: /takes the image over 1000000 names that have to be looked up/,
    entry: 'd/.wh..wh..opq',
  },
  {
    title: 'a root that becomes a file',
    bytes: plain(file('.', '')),
    error: /replaces the root directory/,
    entry: '.',
  },
];

/** Entries with numbers, names and records that no tool writes. */
const headers: readonly HostileLayer[] = [
  { title: 'a negative size', bytes: plain(file('a', '', { size: -1 })), error: /negative size/, entry: 'a' },
  {
    title: 'a size beyond all limits',
    bytes: plain({ ...file('a'), pax: { size: '99999999999999999999' } }),
    error: /extended header with size/,
    entry: 'a',
  },
  {
    title: 'an owner beyond 32 bits',
    bytes: plain({ ...file('a'), pax: { uid: '4294967296' } }),
    error: /owner 4294967296/,
    entry: 'a',
  },
  { title: 'an unknown type', bytes: plain({ path: 'a', type: 'Q' }), error: /unknown type "Q"/, entry: 'a' },
  {
    title: 'a device number beyond 20 bits',
    bytes: plain({ path: 'dev/a', type: '3', major: 1, minor: 2 ** 20 }),
    error: /device with the number/,
    entry: 'dev/a',
  },
  { title: 'a symlink to nothing', bytes: plain(symlink('a', '')), error: /symlink to nothing/, entry: 'a' },
  {
    title: 'attributes larger than a block',
    bytes: plain({ ...file('a'), pax: { 'SCHILY.xattr.user.x': 'v'.repeat(5000) } }),
    error: /extended attributes/,
    entry: 'a',
  },
  {
    title: 'an extended header of a gigabyte',
    bytes: () => encodeEntry({ path: 'pax', type: 'x', size: gib }),
    error: /extended header of 1073741824 bytes/,
  },
  {
    title: 'a record that ends behind its header',
    bytes: () =>
      Buffer.concat([encodeEntry({ path: 'pax', type: 'x', data: '999 path=x\n' }), tarOf([file('a')])]),
    error: /damaged extended header/,
  },
  {
    title: 'a global header of thousands of records, which all entries would have',
    bytes: () =>
      Buffer.concat([
        encodeEntry({
          path: 'pax',
          type: 'g',
          data: Buffer.concat(numbered(5000).map((n) => paxRecord(`key${n}`, 'x'))),
        }),
        tarOf([file('a')]),
      ]),
    error: /has a global header with more than 100 records/,
  },
  {
    title: 'extended headers without end',
    bytes: () => Buffer.alloc(200 * 1024, encodeEntry({ path: 'pax', type: 'g', data: paxRecord('a', 'x') })),
    error: /has more than 100 extended headers in a row/,
  },
  {
    title: 'an extended header for nothing',
    bytes: () =>
      Buffer.concat([
        encodeEntry({ path: 'pax', type: 'x', data: paxRecord('path', 'x') }),
        Buffer.alloc(1024),
      ]),
    error: /ends after an extended header/,
  },
  {
    title: 'a sparse file larger than any filesystem',
    bytes: plain({
      ...file('a', 'abc'),
      pax: {
        'GNU.sparse.major': '0',
        'GNU.sparse.minor': '1',
        'GNU.sparse.map': '0,3',
        'GNU.sparse.size': String(2 ** 50),
      },
    }),
    error: /more than a file can have/,
    entry: 'a',
  },
  {
    title: 'a sparse file with a map that goes back',
    bytes: plain({ ...file('a', 'abcdef'), pax: { 'GNU.sparse.map': '10,3,0,3', 'GNU.sparse.size': '20' } }),
    error: /damaged map/,
    entry: 'a',
  },
  {
    title: 'a header with a wrong sum',
    bytes: () => tarOf([file('a')]).fill('b', 0, 1),
    error: /wrong header checksum/,
  },
  {
    title: 'a file of the largest size, of which nothing follows',
    bytes: () => encodeEntry({ path: 'a', size: 2 ** 43 }),
    error: /truncated|more than|No space|fits/,
    entry: 'a',
  },
];

/** Streams that end too early, too late, or are no streams of their kind. */
const streams: readonly HostileLayer[] = [
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
const bombs: readonly HostileLayer[] = [
  {
    title: 'gzip of 1000:1, in many members',
    bytes: () => gzipBomb(24 * gib),
    error: /unpacks to|over|No space/,
    entry: 'zeros',
    isSlow: true,
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
    bytes: () => manyFiles(700_000),
    error: /takes names and attributes of the image over \d+ MiB of memory/,
    entry: 'many/',
    isSlow: true,
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

/** Every hostile layer; a test goes through them with `test.each`. */
export const hostileLayers: readonly HostileLayer[] = [
  ...paths,
  ...whiteouts,
  ...headers,
  ...streams,
  ...bombs,
];

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
