import { errnoOf } from '../../../errors.ts';
import { PackedRefusal } from '../compression/packed-refusal.ts';
import { unpackXz } from '../compression/xz.ts';
import { Turns } from '../ext4/turns.ts';
import { LayerRefusal } from './layer-refusal.ts';
import { gunzip, unzstd } from './native-decoder.ts';

/** Formats that are recognised by their first bytes; zstd also by its skippable frames. */
const signatures = [
  { format: 'gzip', bytes: [0x1f, 0x8b] },
  { format: 'zstd', bytes: [0x28, 0xb5, 0x2f, 0xfd] },
  { format: 'xz', bytes: [0xfd, 0x37, 0x7a, 0x58, 0x5a] },
  { format: 'bzip2', bytes: [0x42, 0x5a, 0x68] },
] as const;

type Format = (typeof signatures)[number]['format'] | 'plain';

/** So many first bytes tell how something is packed. */
export const signatureBytes = 8;

/** The uncompressed bytes of a layer. Damage to the compression is refused; errors of the source pass through. */
export async function* uncompressed(source: AsyncIterable<Buffer>): AsyncGenerator<Buffer> {
  for await (const piece of uncompressedInPlace(source)) yield Buffer.from(piece);
}

/** The same for readers that need a piece only until they ask for the next one; so may be the chunks of the source. */
export async function* uncompressedInPlace(source: AsyncIterable<Buffer>): AsyncGenerator<Buffer> {
  const input = source[Symbol.asyncIterator]();
  try {
    const head = await readHead(input);
    yield* decompress(formatOf(head), chunksFrom(head, input));
  } catch (error) {
    if (isDecompressionError(error))
      throw new LayerRefusal(`cannot be decompressed (${String(error.message)})`);
    if (error instanceof PackedRefusal) throw new LayerRefusal(error.message);
    throw error;
  } finally {
    await input.return?.();
  }
}

async function readHead(input: AsyncIterator<Buffer>): Promise<Buffer> {
  let head = Buffer.alloc(0);
  while (head.length < signatureBytes) {
    const next = await input.next();
    if (next.done) break;
    head = Buffer.concat([head, next.value]);
  }
  return head;
}

/** How something is packed, by its first bytes. */
export function formatOf(head: Buffer): Format {
  const known = signatures.find(({ bytes }) => bytes.every((byte, index) => head[index] === byte));
  if (known) return known.format;
  const isSkippableFrame = head.length >= 4 && (head.readUInt32LE(0) & 0xfffffff0) >>> 0 === 0x184d2a50;
  return isSkippableFrame ? 'zstd' : 'plain';
}

async function* chunksFrom(head: Buffer, rest: AsyncIterator<Buffer>): AsyncGenerator<Buffer> {
  if (head.length > 0) yield head;
  for (let next = await rest.next(); !next.done; next = await rest.next()) yield next.value;
}

function decompress(format: Format, input: AsyncGenerator<Buffer>): AsyncIterable<Buffer> {
  switch (format) {
    case 'plain':
      return input;
    case 'gzip':
      return gunzip(input);
    case 'zstd':
      return unzstd(input);
    case 'xz':
      return unxz(input);
    case 'bzip2':
      throw new LayerRefusal('is compressed with bzip2, not gzip, zstd or xz (bunzip2 unpacks it)');
  }
}

/** Our own decoder works in this thread, and looks back at its input. */
async function* unxz(input: AsyncIterable<Buffer>): AsyncGenerator<Buffer> {
  const turns = new Turns();
  async function* copies(): AsyncGenerator<Buffer> {
    for await (const chunk of input) {
      yield Buffer.from(chunk);
      await turns.share();
    }
  }
  for await (const piece of unpackXz(copies())) {
    yield piece;
    await turns.share();
  }
}

function isDecompressionError(error: unknown): error is Error {
  const code = errnoOf(error);
  return (
    code !== undefined && (code.startsWith('Z_') || code.startsWith('ZSTD_') || code.startsWith('ERR_ZLIB'))
  );
}
