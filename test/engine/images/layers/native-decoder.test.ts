import { createHash, randomBytes } from 'node:crypto';
import { constants, createGzip, gzipSync, zstdCompressSync } from 'node:zlib';
import { expect, test } from 'vitest';
import { gunzip, unzstd } from '../../../../src/engine/images/layers/native-decoder.ts';

/** Chunks in one piece of memory, as a reader of a file may have them. */
async function* inPlace(data: Buffer, chunkBytes: number): AsyncGenerator<Buffer> {
  const memory = Buffer.alloc(chunkBytes);
  for (let at = 0; at < data.length; at += chunkBytes) {
    const bytes = data.copy(memory, 0, at);
    yield memory.subarray(0, bytes);
    memory.fill(0xff);
    await Promise.resolve();
  }
}

async function unpacked(data: Buffer, chunkBytes = 1000, unpack = gunzip): Promise<Buffer> {
  const pieces: Buffer[] = [];
  for await (const piece of unpack(inPlace(data, chunkBytes))) pieces.push(Buffer.from(piece));
  return Buffer.concat(pieces);
}

const hashOf = (data: Buffer): string => createHash('sha256').update(data).digest('hex');

test('what was packed comes out, however it is cut', async () => {
  const plain = Buffer.concat([randomBytes(300_000), Buffer.alloc(2_000_000, 'text '), randomBytes(5)]);
  const packed = gzipSync(plain);
  for (const chunkBytes of [1, 18, 4096, packed.length - 1, packed.length, packed.length + 1])
    expect(hashOf(await unpacked(packed, chunkBytes))).toBe(hashOf(plain));
});

test('pieces that just fill the buffer are no end', async () => {
  for (const length of [0, 262_143, 262_144, 262_145, 524_288]) {
    const plain = Buffer.alloc(length, 'x');
    expect((await unpacked(gzipSync(plain))).equals(plain)).toBe(true);
    // Without the end mark of the last block in the same chunk.
    expect((await unpacked(gzipSync(plain, { level: 0 }), 262_144)).equals(plain)).toBe(true);
  }
});

test('members follow one another, and zeros the last of them', async () => {
  const members = ['one', '', 'two', 'three'].map((text) => gzipSync(text));
  const packed = Buffer.concat([...members, Buffer.alloc(3000)]);
  for (const chunkBytes of [1, 23, 1000, 10_000])
    expect((await unpacked(packed, chunkBytes)).toString()).toBe('onetwothree');
});

test('a stream that was flushed in between is one stream', async () => {
  const gzip = createGzip();
  gzip.write('first ');
  gzip.flush(constants.Z_FULL_FLUSH, () => gzip.end('second'));
  const parts: Buffer[] = [];
  for await (const part of gzip as AsyncIterable<Buffer>) parts.push(part);
  expect((await unpacked(Buffer.concat(parts), 7)).toString()).toBe('first second');
});

test('damage is told, wherever it is', async () => {
  const packed = gzipSync(randomBytes(10_000));
  const damaged = Buffer.from(packed);
  damaged[packed.length - 6]! ^= 1;
  await expect(unpacked(damaged)).rejects.toMatchObject({ code: 'Z_DATA_ERROR' });
  for (const length of [5, 2000, packed.length - 9, packed.length - 1])
    await expect(unpacked(packed.subarray(0, length))).rejects.toMatchObject({ code: 'Z_BUF_ERROR' });
  await expect(unpacked(Buffer.concat([packed, Buffer.from('garbage')]))).rejects.toMatchObject({
    code: 'Z_DATA_ERROR',
  });
  await expect(unpacked(Buffer.alloc(0))).rejects.toMatchObject({ code: 'Z_BUF_ERROR' });
});

test('a reader that has had enough ends the source', async () => {
  let isEnded = false;
  async function* source(): AsyncGenerator<Buffer> {
    try {
      for (;;) yield await Promise.resolve(gzipSync(randomBytes(1000)));
    } finally {
      isEnded = true;
    }
  }
  for await (const piece of gunzip(source())) if (piece.length > 0) break;
  expect(isEnded).toBe(true);
});

test('zstd comes out, however it is cut, of frames and what may be skipped between them', async () => {
  const plain = Buffer.concat([randomBytes(30_000), Buffer.alloc(600_000, 'text '), randomBytes(5)]);
  const skippable = Buffer.from('502a4d1803000000616263', 'hex');
  const frames = [0, 700, 20_000, 300_000].map((start, index, all) =>
    zstdCompressSync(plain.subarray(start, all[index + 1]), {
      params: { [constants.ZSTD_c_checksumFlag]: index % 2 },
    }),
  );
  const packed = Buffer.concat([skippable, ...frames.flatMap((frame) => [frame, skippable, skippable])]);
  for (const chunkBytes of [7, 4096, packed.length])
    expect(hashOf(await unpacked(packed, chunkBytes, unzstd))).toBe(hashOf(plain));
});

test('zstd that is cut off or damaged, or followed by something else, is told', async () => {
  const packed = zstdCompressSync(randomBytes(10_000), { params: { [constants.ZSTD_c_checksumFlag]: 1 } });
  const damaged = Buffer.from(packed);
  damaged[packed.length - 2]! ^= 1;
  for (const wrong of [packed.subarray(0, -1), damaged, Buffer.concat([packed, Buffer.from('garbage')])])
    for (const chunkBytes of [100, 20_000])
      await expect(unpacked(wrong, chunkBytes, unzstd)).rejects.toThrow();
});
