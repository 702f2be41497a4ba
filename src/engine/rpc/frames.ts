import { BangerError } from '../../errors.ts';

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
  #pending: Buffer = Buffer.alloc(0);

  /** Returns the frames completed by this chunk. Throws `invalid_argument` on an unknown type or an oversized frame. */
  push(chunk: Buffer): Frame[] {
    this.#pending = this.#pending.length === 0 ? chunk : Buffer.concat([this.#pending, chunk]);
    const frames: Frame[] = [];
    while (this.#pending.length >= headerBytes) {
      const type = names.get(this.#pending.readUInt8(0));
      const length = this.#pending.readUInt32BE(1);
      if (!type || length > maxFrameBytes) {
        throw new BangerError('invalid_argument', 'RPC stream is out of step: unknown or oversized frame');
      }
      if (this.#pending.length < headerBytes + length) break;
      frames.push({ type, payload: this.#pending.subarray(headerBytes, headerBytes + length) });
      this.#pending = this.#pending.subarray(headerBytes + length);
    }
    return frames;
  }
}
