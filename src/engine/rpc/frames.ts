import { BangerError } from '../../errors.ts';
import { GrowingBuffer } from './growing-buffer.ts';

/**
 * Frames of an upgraded connection: one byte of type, four bytes of length (big endian), payload.
 *
 * `exit`, `failure`, `progress` and `resize` carry JSON, `signal` a name such as `INT`, `credit` a number of bytes in
 * decimal; `stdin-end` is empty; the others are bytes.
 *
 * A client sends standard input only as far as it has credit, which begins when the program does. So the engine never
 * has to stop reading, and hears signals and cancels however slow the program is.
 */
export const frameTypes = {
  stdin: 0,
  stdout: 1,
  stderr: 2,
  resize: 3,
  exit: 4,
  'stdin-end': 5,
  failure: 6,
  signal: 7,
  progress: 8,
  credit: 9,
} as const;

export type FrameType = keyof typeof frameTypes;

export interface Frame {
  readonly type: FrameType;
  readonly payload: Buffer;
}

/** Longest payload accepted from the other side: 1 MiB. Writers split longer data. */
export const maxFrameBytes = 1024 * 1024;

const headerBytes = 5;
const names = new Map<number, FrameType>(
  Object.entries(frameTypes).map(([name, number]) => [number, name as FrameType]),
);

/** A frame ready to be written; data longer than a frame becomes several. */
export function encodeFrame(type: FrameType, payload: Buffer | string = ''): Buffer {
  const bytes = typeof payload === 'string' ? Buffer.from(payload) : payload;
  if (bytes.length <= maxFrameBytes) return Buffer.concat([header(type, bytes.length), bytes]);
  const parts: Buffer[] = [];
  for (let from = 0; from < bytes.length; from += maxFrameBytes) {
    const part = bytes.subarray(from, from + maxFrameBytes);
    parts.push(header(type, part.length), part);
  }
  return Buffer.concat(parts);
}

function header(type: FrameType, length: number): Buffer {
  const bytes = Buffer.allocUnsafe(headerBytes);
  bytes.writeUInt8(frameTypes[type], 0);
  bytes.writeUInt32BE(length, 1);
  return bytes;
}

/** Puts frames back together from chunks of any size. */
export class FrameReader {
  readonly #pending = new GrowingBuffer();

  /** Returns the frames completed by this chunk. Throws `invalid_argument` on an unknown type or an oversized frame. */
  push(chunk: Buffer): Frame[] {
    let rest = chunk;
    if (this.#pending.length > 0) {
      this.#pending.append(chunk);
      if (this.#pending.length < frameLength(this.#pending.peek())) return [];
      rest = this.#pending.take();
    }
    const frames: Frame[] = [];
    for (let length = frameLength(rest); rest.length >= length; length = frameLength(rest)) {
      frames.push({ type: names.get(rest[0]!)!, payload: rest.subarray(headerBytes, length) });
      rest = rest.subarray(length);
    }
    this.#pending.append(rest);
    return frames;
  }
}

/** Bytes of the frame that begins here, as far as that can be told: a header at least. */
function frameLength(bytes: Buffer): number {
  if (bytes.length < headerBytes) return headerBytes;
  const length = bytes.readUInt32BE(1);
  if (!names.has(bytes[0]!) || length > maxFrameBytes) {
    throw new BangerError('invalid_argument', 'RPC stream is out of step: unknown or oversized frame');
  }
  return headerBytes + length;
}
