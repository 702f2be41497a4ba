import { Readable } from 'node:stream';
import { gzipSync, zstdCompressSync } from 'node:zlib';
import { expect, test } from 'vitest';
import { LayerRefusal } from '../../../../src/engine/images/layers/layer-refusal.ts';
import { uncompressed } from '../../../../src/engine/images/layers/layer-stream.ts';
import { TarReader } from '../../../../src/engine/images/layers/tar-reader.ts';
import {
  directory,
  encodeEntry,
  file,
  hardlink,
  symlink,
  tarOf,
  withChecksum,
} from '../../../support/tar-builder.ts';

const content = Buffer.from('0123456789'.repeat(300));

/** Far above what the real layers here need, far below what would hurt. */
const maxBytes = 1024 * 1024;

/** Reads a tar to its end: how many entries and bytes it had, or the refusal. Any other error is a defect. */
async function readAll(bytes: Buffer): Promise<{ entries: number; bytes: number } | LayerRefusal> {
  const reader = new TarReader(Readable.from([bytes]));
  let entries = 0;
  let read = 0;
  try {
    while (await reader.next()) {
      entries++;
      await reader.body(async (_, data) => void (read += data.length));
    }
    return { entries, bytes: read };
  } catch (error) {
    if (error instanceof LayerRefusal) return error;
    throw error;
  } finally {
    await reader.close();
  }
}

const flipped = (bytes: Buffer, bit: number): Buffer => {
  const copy = Buffer.from(bytes);
  copy.writeUInt8(copy.readUInt8(bit >> 3) ^ (1 << (bit & 7)), bit >> 3);
  return copy;
};

const headers = {
  'a file': file('name', content),
  'a file with extended headers': file('name', content, {
    pax: { mtime: '1.5', 'SCHILY.xattr.user.a': 'b' },
  }),
  'a sparse file': file('sparse', '1\n0\n10\n'.padEnd(512, '\0') + '0123456789', {
    pax: {
      'GNU.sparse.major': '1',
      'GNU.sparse.minor': '0',
      'GNU.sparse.name': 'name',
      'GNU.sparse.realsize': '10',
    },
  }),
  'a link': symlink('name', 'target'),
  'a hard link': hardlink('name', 'target'),
  'a directory': directory('name'),
};

test.each(Object.entries(headers))(
  'any bit of the headers of %s may be wrong: the layer is refused, or read without harm',
  async (_, entry) => {
    const own = encodeEntry(entry);
    const rest = tarOf([file('after', content)]);
    const outcomes = new Set<string>();
    for (let bit = 0; bit < own.length * 8 && bit < 2048 * 8; bit++) {
      for (const isSummed of [false, true]) {
        const bytes = Buffer.concat([flipped(own, bit), rest]);
        // With its checksum put right the wrong bit is believed.
        if (isSummed) {
          const block = (bit >> 12) << 9;
          withChecksum(bytes.subarray(block, block + 512));
        }
        const outcome = await readAll(bytes);
        if (!(outcome instanceof LayerRefusal)) expect(outcome.bytes).toBeLessThanOrEqual(bytes.length);
        outcomes.add(outcome instanceof LayerRefusal ? 'refused' : 'read');
      }
    }
    expect(outcomes).toEqual(new Set(['refused', 'read']));
  },
);

test.each([
  ['gzip', gzipSync],
  ['zstd', zstdCompressSync],
])(
  'any bit of a %s stream may be wrong: it is refused, or it is a layer of something else',
  async (_, compress) => {
    const plain = tarOf([file('name', content), file('other', content)]);
    const compressed = compress(plain);
    let refused = 0;
    for (let bit = 0; bit < compressed.length * 8; bit++) {
      let bytes = 0;
      try {
        for await (const chunk of uncompressed(Readable.from([flipped(compressed, bit)])))
          bytes += chunk.length;
      } catch (error) {
        expect(error, `bit ${bit}`).toBeInstanceOf(LayerRefusal);
        refused++;
      }
      expect(bytes).toBeLessThan(maxBytes);
    }
    expect(refused).toBeGreaterThan(compressed.length);
  },
);
