import { LayerRefusal } from './layer-refusal.ts';

export const tarBlockSize = 512;

/** The fields of one tar header block. Texts are byte strings. */
export interface TarHeader {
  readonly path: string;
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
  readonly size: number;
  readonly mtime: number;
  /** One character; `\0` reads as `0` */
  readonly type: string;
  readonly linkPath: string;
  readonly major: number;
  readonly minor: number;
  /** The block itself, for what only some types have; valid until the next one is read */
  readonly block: Buffer;
}

/** Parses a header block in v7, ustar, GNU or star form (POSIX pax, “ustar Interchange Format”; GNU tar manual, “Standard”). */
export function parseTarHeader(block: Buffer): TarHeader {
  checkSum(block);
  const type = block.toString('latin1', 156, 157);
  const isDevice = type === '3' || type === '4';
  return {
    path: fullPath(block),
    mode: number(block, 100, 8, 'mode'),
    uid: number(block, 108, 8, 'user id'),
    gid: number(block, 116, 8, 'group id'),
    size: number(block, 124, 12, 'size'),
    mtime: number(block, 136, 12, 'modification time'),
    type: type === '\0' ? '0' : type,
    linkPath: text(block, 157, 100),
    // Some tools leave garbage here for other types.
    major: isDevice ? number(block, 329, 8, 'device number') : 0,
    minor: isDevice ? number(block, 337, 8, 'device number') : 0,
    block,
  };
}

/** The sum of all bytes, the sum's own field read as spaces; old writers summed signed bytes. */
function checkSum(block: Buffer): void {
  const stored = Number.parseInt(text(block, 148, 8).trim(), 8);
  let unsigned = 8 * 0x20;
  let signed = unsigned;
  for (let offset = 0; offset < tarBlockSize; offset++) {
    if (offset === 148) offset = 156;
    const byte = block[offset] ?? 0;
    unsigned += byte;
    signed += byte < 128 ? byte : byte - 256;
  }
  if (stored !== unsigned && stored !== signed)
    throw new LayerRefusal('is not a tar file, or damaged: wrong header checksum');
}

function fullPath(block: Buffer): string {
  const name = text(block, 0, 100);
  const prefix = text(block, 345, prefixLength(block));
  return prefix === '' ? name : `${prefix}/${name}`;
}

/** Old GNU headers have other things in place of the prefix, star ones a shorter prefix. */
function prefixLength(block: Buffer): number {
  if (block.toString('latin1', 257, 263) !== 'ustar\0') return 0;
  return block.toString('latin1', 508, 512) === 'tar\0' ? 131 : 155;
}

function text(block: Buffer, offset: number, length: number): string {
  const value = block.toString('latin1', offset, offset + length);
  const end = value.indexOf('\0');
  return end === -1 ? value : value.slice(0, end);
}

/** Reads an octal number, or the base-256 one of GNU tar, which can be negative. */
export function number(block: Buffer, offset: number, length: number, what: string): number {
  const first = block[offset] ?? 0;
  if (first & 0x80) return base256(block.subarray(offset, offset + length), what);
  const plain = octal(block, offset, length);
  if (plain !== undefined) return plain;
  const digits = text(block, offset, length).trim();
  if (digits === '') return 0;
  if (!/^[0-7]+$/.test(digits))
    throw new LayerRefusal(`has a header with the ${what} "${digits.replace(/[^ -~]/g, '?')}"`);
  return Number.parseInt(digits, 8);
}

/** The digits of a field as most tools write it, from its start to a space or zero; undefined when it is another. */
function octal(block: Buffer, offset: number, length: number): number | undefined {
  let value = 0;
  for (let at = offset; at < offset + length; at++) {
    const digit = (block[at] ?? 0) - 0x30;
    if (digit >= 0 && digit <= 7) value = value * 8 + digit;
    else if (at > offset && (digit === -0x30 || (digit === -0x10 && at === offset + length - 1)))
      return value;
    else return undefined;
  }
  return value;
}

/** Two's complement, big-endian; bit 7 of the first byte marks the encoding, bit 6 is the sign. */
function base256(bytes: Buffer, what: string): number {
  const isNegative = ((bytes[0] ?? 0) & 0x40) !== 0;
  let value = BigInt((bytes[0] ?? 0) & 0x7f);
  for (const byte of bytes.subarray(1)) value = (value << 8n) | BigInt(byte);
  if (isNegative) value -= 1n << BigInt(bytes.length * 8 - 1);
  const result = Number(value);
  if (!Number.isSafeInteger(result)) throw new LayerRefusal(`has a header with a ${what} beyond all limits`);
  return result;
}
