import { ByteReader } from '../layers/byte-reader.ts';
import { KernelRefusal } from './kernel-refusal.ts';

const magic = '!<arch>\n';
const headerBytes = 60;
/** Debian packages have three; some add signatures. */
const maxMembers = 64;
const pieceBytes = 256 * 1024;

/**
 * The content of the first member of an ar archive whose name begins with `prefix`, as it is stored
 * (deb(5): names are short, without a trailing slash or with one).
 */
export async function* arMember(source: AsyncIterable<Buffer>, prefix: string): AsyncGenerator<Buffer> {
  const input = new ByteReader(source);
  try {
    if ((await input.upTo(magic.length)).toString('latin1') !== magic)
      throw new KernelRefusal('is not a Debian package');
    for (let members = 0; members < maxMembers; members++) {
      const header = await input.upTo(headerBytes);
      if (header.length === 0) break;
      const { name, size } = parseHeader(header);
      if (name.startsWith(prefix)) return yield* content(input, size);
      // Members begin at even offsets.
      for await (const piece of content(input, size + (size % 2))) void piece;
    }
    throw new KernelRefusal(`is not a Debian package: it has no "${prefix}"`);
  } finally {
    await input.close();
  }
}

function parseHeader(header: Buffer): { readonly name: string; readonly size: number } {
  const size = header.toString('latin1', 48, 58).trim();
  if (header.length < headerBytes || header.toString('latin1', 58, 60) !== '`\n' || !/^\d{1,10}$/.test(size))
    throw new KernelRefusal('is a damaged Debian package');
  return { name: header.toString('latin1', 0, 16).replace(/\/? *$/, ''), size: Number(size) };
}

async function* content(input: ByteReader, size: number): AsyncGenerator<Buffer> {
  for (let left = size; left > 0;) {
    const piece = await input.some(Math.min(left, pieceBytes));
    if (!piece) throw new KernelRefusal('is truncated');
    left -= piece.length;
    yield piece;
  }
}
