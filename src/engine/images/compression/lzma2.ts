import type { ByteReader } from '../layers/byte-reader.ts';
import { PackedRefusal } from './packed-refusal.ts';
import { LzmaDecoder, type LzmaProperties } from './lzma.ts';
import { LzmaWindow, maxDictionaryBytes } from './lzma-window.ts';

/** What a chunk resets, by the two bits of its control byte. Each includes those before. */
const resets = { nothing: 0, state: 1, properties: 2, dictionary: 3 } as const;

/** The size of the dictionary that an LZMA2 filter asks for, from its one byte of properties. */
export function dictionarySize(code: number): number {
  const bytes = code < 40 ? (2 | (code & 1)) * 2 ** ((code >> 1) + 11) : code === 40 ? 2 ** 32 - 1 : Infinity;
  if (bytes <= maxDictionaryBytes) return bytes;
  throw new PackedRefusal(`needs ${Math.ceil(bytes / 2 ** 20)} MiB of memory to be unpacked from xz`);
}

/**
 * Unpacks LZMA2 data up to its end mark: chunks of at most 64 KiB that unpack to at most 2 MiB, so that whoever
 * reads can do other things between them.
 */
export async function* unpackLzma2(input: ByteReader, dictionaryBytes: number): AsyncGenerator<Buffer> {
  const window = new LzmaWindow(dictionaryBytes);
  const decoder = new LzmaDecoder(window);
  let needs: number = resets.dictionary;
  for (;;) {
    const control = (await exactly(input, 1))[0]!;
    if (control === 0) return;
    if (control < 0x80) {
      if (control > 2) throw damaged('an unknown kind of chunk');
      if (control === 1) {
        window.reset();
        needs = resets.properties;
      } else if (needs === resets.dictionary) throw damaged('no dictionary to begin with');
      const length = (await exactly(input, 2)).readUInt16BE() + 1;
      await window.reserve(length);
      window.appendAll(await exactly(input, length));
      yield* window.taken(length);
      continue;
    }

    const reset = (control >> 5) & 3;
    if (reset < needs) throw damaged('a chunk that resets too little');
    needs = resets.nothing;
    const sizes = await exactly(input, 4);
    const length = ((control & 0x1f) << 16) + sizes.readUInt16BE(0) + 1;
    const packedLength = sizes.readUInt16BE(2) + 1;
    if (reset === resets.dictionary) window.reset();
    if (reset >= resets.properties) decoder.reset(parseProperties((await exactly(input, 1))[0]!));
    else if (reset === resets.state) decoder.reset();
    await window.reserve(length);
    const slices = decoder.decode(await exactly(input, packedLength), length);
    while (!slices.next().done) await new Promise(setImmediate);
    yield* window.taken(length);
  }
}

function parseProperties(code: number): LzmaProperties {
  const literalContextBits = code % 9;
  const literalPositionBits = Math.floor(code / 9) % 5;
  const positionBits = Math.floor(code / 45);
  if (positionBits > 4 || literalContextBits + literalPositionBits > 4)
    throw damaged('impossible properties');
  return { literalContextBits, literalPositionBits, positionBits };
}

/** The next `length` bytes. Throws when the stream ends before. */
export async function exactly(input: ByteReader, length: number): Promise<Buffer> {
  const bytes = await input.upTo(length);
  if (bytes.length === length) return bytes;
  throw new PackedRefusal('is truncated: its xz data ends early');
}

function damaged(what: string): PackedRefusal {
  return new PackedRefusal(`has damaged xz data: ${what}`);
}
