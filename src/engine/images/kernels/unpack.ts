import { ByteReader } from '../layers/byte-reader.ts';
import { uncompressed } from '../layers/layer-stream.ts';
import { KernelRefusal } from './kernel-refusal.ts';

export type Compression = 'lz4' | 'gzip' | 'zstd' | 'xz' | 'lzma' | 'bzip2' | 'lzo';

const signatures: readonly { readonly compression: Compression; readonly bytes: readonly number[] }[] = [
  { compression: 'lz4', bytes: [0x02, 0x21, 0x4c, 0x18] },
  { compression: 'gzip', bytes: [0x1f, 0x8b] },
  { compression: 'zstd', bytes: [0x28, 0xb5, 0x2f, 0xfd] },
  { compression: 'xz', bytes: [0xfd, 0x37, 0x7a, 0x58, 0x5a, 0x00] },
  { compression: 'lzma', bytes: [0x5d, 0x00, 0x00] },
  { compression: 'bzip2', bytes: [0x42, 0x5a, 0x68] },
  { compression: 'lzo', bytes: [0x89, 0x4c, 0x5a, 0x4f] },
];
const longestSignature = 8;
const pieceBytes = 256 * 1024;

/** How data is compressed, by its first bytes; undefined when it does not look compressed. */
export function compressionOf(head: Buffer): Compression | undefined {
  return signatures.find(({ bytes }) => bytes.every((byte, index) => head[index] === byte))?.compression;
}

/**
 * The unpacked bytes of a stream, whatever it is packed with; what is not packed passes through. Stops with a refusal
 * at more than `maxBytes`.
 */
export async function* unpack(source: AsyncIterable<Buffer>, maxBytes: number): AsyncGenerator<Buffer> {
  const input = new ByteReader(source);
  try {
    const head = Buffer.from(await input.upTo(longestSignature));
    let total = 0;
    for await (const piece of unpackBy(compressionOf(head), rejoined(head, input))) {
      total += piece.length;
      if (total > maxBytes) throw new KernelRefusal(`unpacks to more than ${maxBytes} bytes`);
      yield piece;
      // Our own decoders work in this thread: others get their turn between pieces.
      await new Promise(setImmediate);
    }
  } finally {
    await input.close();
  }
}

async function* unpackBy(
  compression: Compression | undefined,
  input: AsyncGenerator<Buffer>,
): AsyncGenerator<Buffer> {
  switch (compression) {
    case undefined:
      return yield* input;
    case 'gzip':
    case 'zstd':
      return yield* uncompressed(input);
    case 'lz4':
      return yield* (await import('../compression/lz4.ts')).unpackLz4(input);
    case 'xz':
      return yield* (await import('../compression/xz.ts')).unpackXz(input);
    case 'lzma':
    case 'bzip2':
    case 'lzo':
      throw new KernelRefusal(`is compressed with ${compression}; banger knows LZ4, gzip, zstd and xz`);
  }
}

async function* rejoined(head: Buffer, rest: ByteReader): AsyncGenerator<Buffer> {
  if (head.length > 0) yield head;
  for (let piece = await rest.some(pieceBytes); piece; piece = await rest.some(pieceBytes)) yield piece;
}
