import { gzipSync } from 'node:zlib';
import { encodeEntry, file, paxRecord, symlink, tarOf } from '../tar-builder.ts';
import { numbered, plain, type HostileLayer } from './hostile-layer.ts';

const gib = 2 ** 30;

/** Entries with numbers, names and records that no tool writes. */
export const headers: readonly HostileLayer[] = [
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
  {
    title: 'extended headers of records that say nothing',
    bytes: () =>
      gzipSync(
        Buffer.concat([
          ...numbered(8).flatMap((n) => [
            encodeEntry({ path: 'pax', type: 'x', data: Buffer.alloc(1_000_000, '5 k=\n') }),
            encodeEntry(file(`f${n}`, '')),
          ]),
          tarOf([]),
        ]),
      ),
    error: /has 1[0-9]{6} records in its extended headers and those before/,
  },
  {
    title: 'two extended headers for one entry that are too large together',
    bytes: plain(
      ...numbered(2).map(() => ({ path: 'pax', type: 'x', data: paxRecord('comment', 'x'.repeat(600_000)) })),
      file('f', ''),
    ),
    error: /has an extended header of 12000[0-9]+ bytes/,
  },
];
