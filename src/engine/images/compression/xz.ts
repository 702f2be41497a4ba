import { createHash } from 'node:crypto';
import { crc32 } from 'node:zlib';
import { admitOptimizer } from '../../optimizer.ts';
import { ByteReader } from '../layers/byte-reader.ts';
import { PackedRefusal } from './packed-refusal.ts';
import { Crc64 } from './crc64.ts';
import { dictionarySize, exactly, unpackLzma2 } from './lzma2.ts';
import { X86Filter } from './x86-filter.ts';

const magic = Buffer.from([0xfd, 0x37, 0x7a, 0x58, 0x5a, 0x00]);
const footerMagic = Buffer.from('YZ');
const headerBytes = 12;
const filterIds = { x86: 0x04, lzma2: 0x21 } as const;
const maxBlocks = 1_000_000;

/** What a block's header says: filters in the order in which they were applied. */
interface BlockHeader {
  readonly length: number;
  readonly dictionaryBytes: number;
  readonly x86: X86Filter | undefined;
}

/** A checksum over what was unpacked, as one of the kinds that xz has. */
interface Check {
  readonly length: number;
  readonly update: (bytes: Buffer) => void;
  /** Undefined when this kind cannot be checked, which the format allows */
  readonly digest: () => Buffer | undefined;
}

/**
 * Unpacks xz files (https://tukaani.org/xz/xz-file-format.txt): LZMA2, with the x86 filter or without, which is what
 * kernels, their modules and Debian packages use. Checksums are verified; other filters are refused by name.
 */
export async function* unpackXz(source: AsyncIterable<Buffer>): AsyncGenerator<Buffer> {
  // A bit of input is worth a hundred steps of ours: whatever the size, they are too many for an interpreter.
  admitOptimizer();
  const input = new ByteReader(source);
  for (let isFirst = true; ; isFirst = false) {
    const header = await input.upTo(headerBytes);
    if (header.length === 0 && !isFirst) return;
    if (header.length < headerBytes || !header.subarray(0, 6).equals(magic))
      throw damaged(isFirst ? 'it does not begin as xz does' : 'something else follows it');
    if (
      header[6] !== 0 ||
      (header[7]! & 0xf0) !== 0 ||
      header.readUInt32LE(8) !== crc32(header.subarray(6, 8))
    )
      throw damaged('its header');
    yield* unpackStream(input, header.subarray(6, 8));
  }
}

async function* unpackStream(input: ByteReader, flags: Buffer): AsyncGenerator<Buffer> {
  const sizes: { readonly packed: number; readonly unpacked: number }[] = [];
  for (;;) {
    const start = input.count;
    const first = await exactly(input, 1);
    if (first[0] === 0) {
      await checkIndex(input, { sizes, flags });
      return;
    }
    if (sizes.length === maxBlocks) throw damaged('too many blocks');
    const header = parseBlockHeader(Buffer.concat([first, await exactly(input, first[0]! * 4 + 3)]));
    const check = makeCheck(flags[1]!);
    let unpacked = 0;
    for await (const piece of unpackLzma2(input, header.dictionaryBytes)) {
      const bytes = header.x86?.push(piece) ?? piece;
      unpacked += bytes.length;
      check.update(bytes);
      if (bytes.length > 0) yield bytes;
    }
    const rest = header.x86?.end() ?? Buffer.alloc(0);
    unpacked += rest.length;
    check.update(rest);
    if (rest.length > 0) yield rest;

    const packed = input.count - start;
    await padding(input, packed);
    const stored = await exactly(input, check.length);
    const computed = check.digest();
    if (computed && !computed.equals(stored)) throw damaged('its content does not match its checksum');
    sizes.push({ packed: packed + check.length, unpacked });
  }
}

function parseBlockHeader(header: Buffer): BlockHeader {
  const end = header.length - 4;
  if (header.readUInt32LE(end) !== crc32(header.subarray(0, end))) throw damaged('the header of a block');
  const flags = header[1]!;
  const fields = new FieldReader(header.subarray(2, end));
  if ((flags & 0x3c) !== 0) throw damaged('the header of a block');
  // Sizes, which the index repeats.
  if ((flags & 0x40) !== 0) fields.integer();
  if ((flags & 0x80) !== 0) fields.integer();
  const count = (flags & 3) + 1;
  let x86: X86Filter | undefined;
  for (let index = 0; index < count; index++) {
    const id = fields.integer();
    const properties = fields.bytes(fields.integer());
    const isLast = index === count - 1;
    if (id === filterIds.lzma2 && isLast && properties.length === 1)
      return { length: header.length, dictionaryBytes: dictionarySize(properties[0]!), x86 };
    if (id !== filterIds.x86 || isLast || x86) break;
    x86 = new X86Filter(properties.length === 4 ? properties.readUInt32LE() : 0);
  }
  throw new PackedRefusal('is packed with xz filters other than LZMA2 and x86, which banger does not know');
}

/** The index repeats the sizes of all blocks; with it a file that lost blocks in its middle is found out. */
async function checkIndex(
  input: ByteReader,
  expected: { sizes: readonly { packed: number; unpacked: number }[]; flags: Buffer },
): Promise<void> {
  // The byte 0 that says it is the index.
  const read = [0];
  const integer = async (): Promise<number> => {
    const decoder = new IntegerDecoder();
    for (;;) {
      const byte = (await exactly(input, 1))[0]!;
      read.push(byte);
      if (decoder.push(byte)) return decoder.value;
    }
  };
  const count = await integer();
  if (count !== expected.sizes.length) throw damaged('its index does not match its blocks');
  for (const { packed, unpacked } of expected.sizes) {
    if ((await integer()) !== packed || (await integer()) !== unpacked)
      throw damaged('its index does not match its blocks');
  }
  read.push(...(await padding(input, read.length)));
  const length = read.length;
  if ((await exactly(input, 4)).readUInt32LE() !== crc32(Buffer.from(read))) throw damaged('its index');

  const footer = await exactly(input, headerBytes);
  const isRight =
    footer.readUInt32LE(0) === crc32(footer.subarray(4, 10)) &&
    (footer.readUInt32LE(4) + 1) * 4 === length + 4 &&
    footer.subarray(8, 10).equals(expected.flags) &&
    footer.subarray(10).equals(footerMagic);
  if (!isRight) throw damaged('its footer');
}

/** Zeros up to the next multiple of four. */
async function padding(input: ByteReader, length: number): Promise<Buffer> {
  const bytes = await exactly(input, (4 - (length % 4)) % 4);
  if (bytes.some((byte) => byte !== 0)) throw damaged('its padding');
  return bytes;
}

function makeCheck(kind: number): Check {
  switch (kind) {
    case 0x01: {
      let crc = 0;
      return {
        length: 4,
        update: (bytes) => void (crc = crc32(bytes, crc)),
        digest: () => {
          const digest = Buffer.alloc(4);
          digest.writeUInt32LE(crc);
          return digest;
        },
      };
    }
    case 0x04: {
      const crc = new Crc64();
      return { length: 8, update: (bytes) => crc.update(bytes), digest: () => crc.digest() };
    }
    case 0x0a: {
      const hash = createHash('sha256');
      return { length: 32, update: (bytes) => void hash.update(bytes), digest: () => hash.digest() };
    }
    default: {
      const length = kind === 0 ? 0 : 4 * 2 ** Math.floor((kind - 1) / 3);
      return { length, update: () => undefined, digest: () => undefined };
    }
  }
}

/** Fields of a block's header, which is in memory as a whole. */
class FieldReader {
  readonly #bytes: Buffer;
  #at = 0;

  constructor(bytes: Buffer) {
    this.#bytes = bytes;
  }

  integer(): number {
    const decoder = new IntegerDecoder();
    while (!decoder.push(this.bytes(1)[0]!));
    return decoder.value;
  }

  bytes(length: number): Buffer {
    if (this.#at + length > this.#bytes.length) throw damaged('the header of a block');
    this.#at += length;
    return this.#bytes.subarray(this.#at - length, this.#at);
  }
}

/** Seven bits a byte, lowest first; the eighth says that more follow. */
class IntegerDecoder {
  value = 0;
  #shift = 0;

  /** True when that was the last byte. */
  push(byte: number): boolean {
    if (this.#shift > 49) throw damaged('a number beyond all limits');
    this.value += (byte & 0x7f) * 2 ** this.#shift;
    this.#shift += 7;
    return (byte & 0x80) === 0;
  }
}

function damaged(what: string): PackedRefusal {
  return new PackedRefusal(`has damaged xz data: ${what}`);
}
