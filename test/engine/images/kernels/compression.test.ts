import { randomBytes } from 'node:crypto';
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { dictionarySize } from '../../../../src/engine/images/compression/lzma2.ts';
import { unpack } from '../../../../src/engine/images/kernels/unpack.ts';
import { compressors, filter } from '../../../support/kernels.ts';

/** Unpacks bytes that arrive in pieces of some size. */
async function unpacked(packed: Buffer, { pieceBytes = 65_536, maxBytes = 1024 ** 3 } = {}): Promise<Buffer> {
  async function* pieces(): AsyncGenerator<Buffer> {
    for (let at = 0; at < packed.length; at += pieceBytes) yield packed.subarray(at, at + pieceBytes);
  }
  const out: Buffer[] = [];
  for await (const piece of unpack(pieces(), maxBytes)) out.push(Buffer.from(piece));
  return Buffer.concat(out);
}

/** Bytes with repetitions near and far, as programs have, and with CALL instructions for the x86 filter. */
const programLike = fc
  .array(
    fc.oneof(
      fc.uint8Array({ maxLength: 300 }),
      fc.tuple(fc.uint8Array({ minLength: 1, maxLength: 9 }), fc.integer({ min: 1, max: 5000 })),
      fc.tuple(fc.constantFrom(0xe8, 0xe9), fc.integer({ min: -0x2000000, max: 0x2000000 })),
    ),
    { maxLength: 60 },
  )
  .map((parts) =>
    Buffer.concat(
      parts.map((part) => {
        if (part instanceof Uint8Array) return Buffer.from(part);
        const [first, second] = part;
        if (first instanceof Uint8Array) return Buffer.alloc(second, Buffer.from(first));
        const call = Buffer.alloc(5);
        call[0] = first;
        call.writeInt32LE(second, 1);
        return call;
      }),
    ),
  )
  .filter((bytes) => bytes.length > 0);

const variants = {
  lz4: compressors.lz4,
  'lz4, fast': (bytes: Buffer) => filter(['lz4', '-l', '-1', '-c'], bytes),
  'xz with x86 filter': compressors.xz,
  'xz as packages have it': (bytes: Buffer) => filter(['xz', '-6', '--check=crc64', '-c'], bytes),
  'xz with sha256 and odd properties': (bytes: Buffer) =>
    filter(['xz', '--check=sha256', '--lzma2=preset=3,lc=1,lp=3,pb=0,dict=4KiB', '-c'], bytes),
  'xz in blocks': (bytes: Buffer) => filter(['xz', '--block-size=1000', '-c'], bytes),
  gzip: compressors.gzip,
  zstd: compressors.zstd,
} as const;

test.each(Object.entries(variants))('what %s packs is unpacked to the same bytes', async (_, pack) => {
  await fc.assert(
    fc.asyncProperty(programLike, fc.integer({ min: 1, max: 5000 }), async (bytes, pieceBytes) => {
      expect((await unpacked(pack(bytes), { pieceBytes })).equals(bytes)).toBe(true);
    }),
    { numRuns: 25 },
  );
});

test('content larger than blocks and dictionaries comes back whole', async () => {
  const block = randomBytes(600_000);
  const bytes = Buffer.concat([block, Buffer.alloc(9_000_000, 'kernel'), block, randomBytes(300_000), block]);
  for (const pack of [
    variants.lz4,
    variants['xz with x86 filter'],
    variants['xz with sha256 and odd properties'],
  ])
    expect((await unpacked(pack(bytes))).equals(bytes)).toBe(true);
});

test('xz data that is cut off anywhere is refused', async () => {
  const packed = compressors.xz(Buffer.concat([randomBytes(2000), Buffer.alloc(3000, 'ab')]));
  for (let length = 8; length < packed.length; length += 7)
    await expect(unpacked(packed.subarray(0, length)), `${length} bytes`).rejects.toThrow(
      /truncated|damaged|does not begin/,
    );
});

test('LZ4 data that is cut off within a block is refused', async () => {
  const packed = compressors.lz4(randomBytes(3000));
  for (let length = 9; length < packed.length; length += 97)
    await expect(unpacked(packed.subarray(0, length)), `${length} bytes`).rejects.toThrow('truncated');
});

test('one wrong bit anywhere in xz data is found', async () => {
  const packed = compressors.xz(Buffer.concat([randomBytes(600), Buffer.alloc(2000, 'ab')]));
  for (let bit = 0; bit < packed.length * 8; bit += 5) {
    const wrong = Buffer.from(packed);
    wrong[bit >> 3]! ^= 1 << (bit & 7);
    // In its first bytes it stops being xz, and passes through as it is.
    if (bit < 48) continue;
    await expect(unpacked(wrong), `bit ${bit}`).rejects.toThrow(/damaged|truncated|filters|memory/);
  }
});

test('damaged LZ4 data never unpacks beyond its bounds', async () => {
  const packed = compressors.lz4(Buffer.concat([randomBytes(300), Buffer.alloc(3000, 'ab')]));
  await fc.assert(
    fc.asyncProperty(fc.nat(packed.length - 9), fc.nat(255), async (at, byte) => {
      const wrong = Buffer.from(packed);
      wrong[8 + at] = byte;
      const outcome = await unpacked(wrong).catch((error: Error) => error);
      if (outcome instanceof Error) expect(outcome.message).toMatch(/damaged LZ4|truncated/);
      else expect(outcome.length).toBeLessThanOrEqual(8 * 1024 ** 2);
    }),
    { numRuns: 300 },
  );
});

test.each(['lz4', 'gzip', 'zstd', 'xz'] as const)('a bomb of %s stops at the limit', async (name) => {
  const packed = compressors[name](Buffer.alloc(64 * 1024 ** 2));
  await expect(unpacked(packed, { maxBytes: 1024 ** 2 })).rejects.toThrow(
    'unpacks to more than 1048576 bytes',
  );
});

test('a dictionary beyond reason is refused, and one that is not needed is not made', async () => {
  const small = filter(['xz', '--lzma2=dict=128MiB,preset=0', '-c'], Buffer.from('small'));
  expect((await unpacked(small)).toString()).toBe('small');
  expect(() => dictionarySize(32)).toThrow('needs 256 MiB of memory to be unpacked from xz');
});

test.each([
  ['lzma', filter(['xz', '--format=lzma', '-c'], Buffer.from('text'))],
  ['bzip2', Buffer.from('BZh91AY&SY')],
  ['lzo', Buffer.from([0x89, 0x4c, 0x5a, 0x4f, 0, 0, 0, 0])],
])('%s is refused by name', async (name, packed) => {
  await expect(unpacked(packed)).rejects.toThrow(`is compressed with ${name}`);
});
