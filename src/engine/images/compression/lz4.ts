import { ByteReader } from '../layers/byte-reader.ts';
import { PackedRefusal } from './packed-refusal.ts';

/** First bytes of the format that `lz4 -l` writes, the only one of LZ4 that kernels use. */
export const lz4LegacyMagic = 0x184c2102;

/** What a block of a legacy frame unpacks to at most, as the format says. */
const maxBlockBytes = 8 * 1024 * 1024;
/** What LZ4 makes of that many bytes at worst. */
const maxPackedBytes = maxBlockBytes + Math.ceil(maxBlockBytes / 255) + 16;
/** Unpacked bytes that are given at once, or little more: takes milliseconds. */
const pieceBytes = 256 * 1024;
const minMatch = 4;

/**
 * Unpacks LZ4's legacy frame: a magic number, then blocks with their packed sizes in front
 * (https://github.com/lz4/lz4/blob/dev/doc/lz4_Frame_format.md, "Legacy frame"). One block is held at a time.
 */
export async function* unpackLz4(source: AsyncIterable<Buffer>): AsyncGenerator<Buffer> {
  const input = new ByteReader(source);
  for (let isFirst = true; ; isFirst = false) {
    const head = await input.upTo(4);
    if (head.length === 0 && !isFirst) return;
    if (head.length < 4) throw truncated();
    const size = head.readUInt32LE();
    // Frames may follow one another; their magic number is larger than any block.
    if (size === lz4LegacyMagic) continue;
    if (isFirst) throw damaged('it does not begin as LZ4 does');
    if (size > maxPackedBytes) throw damaged(`a block of ${size} bytes`);
    const block = await input.upTo(size);
    if (block.length < size) throw truncated();
    yield* unpackBlock(block);
  }
}

/**
 * Unpacks one block, whatever it holds: reads stay in the block, and writes within what a block may unpack to. What was
 * given is read again, and not written.
 */
function* unpackBlock(block: Buffer): Generator<Buffer> {
  let out = Buffer.allocUnsafe(Math.min(maxBlockBytes, Math.max(64 * 1024, block.length * 4)));
  let from = 0;
  let to = 0;
  let given = 0;

  const reserve = (count: number): void => {
    if (to + count <= out.length) return;
    if (to + count > maxBlockBytes) throw damaged(`a block unpacks to more than ${maxBlockBytes} bytes`);
    const larger = Buffer.allocUnsafe(Math.min(maxBlockBytes, Math.max(to + count, out.length * 2)));
    out.copy(larger, 0, 0, to);
    out = larger;
  };
  // Lengths of 15 go on in bytes that are added up, until one is not 255.
  const longLength = (start: number): number => {
    let length = start;
    for (let byte = 255; byte === 255;) {
      if (from >= block.length) throw damaged('a block ends within a length');
      byte = block[from++]!;
      length += byte;
    }
    return length;
  };

  while (from < block.length) {
    const token = block[from++]!;
    const literals = token >> 4 === 15 ? longLength(15) : token >> 4;
    if (from + literals > block.length) throw damaged('a block ends within its literals');
    reserve(literals);
    block.copy(out, to, from, from + literals);
    from += literals;
    to += literals;
    // The last sequence has literals only.
    if (from === block.length) break;

    if (from + 2 > block.length) throw damaged('a block ends within an offset');
    const offset = block[from]! | (block[from + 1]! << 8);
    from += 2;
    if (offset === 0 || offset > to) throw damaged('a block refers to bytes before its beginning');
    const length = ((token & 15) === 15 ? longLength(15) : token & 15) + minMatch;
    reserve(length);
    copyMatch(out, { to, offset, length });
    to += length;
    if (to - given < pieceBytes) continue;
    yield out.subarray(given, to);
    given = to;
  }
  if (to > given) yield out.subarray(given, to);
}

/** Source and destination may overlap, in which case bytes just written are read again: each pass doubles them. */
function copyMatch(out: Buffer, match: { to: number; offset: number; length: number }): void {
  const { to, offset, length } = match;
  if (length < 32) {
    for (let at = to; at < to + length; at++) out[at] = out[at - offset]!;
    return;
  }
  for (let done = 0; done < length;) {
    const step = Math.min(offset + done, length - done);
    out.copyWithin(to + done, to - offset, to - offset + step);
    done += step;
  }
}

function truncated(): PackedRefusal {
  return new PackedRefusal('is truncated: its LZ4 data ends early');
}

function damaged(what: string): PackedRefusal {
  return new PackedRefusal(`has damaged LZ4 data: ${what}`);
}
