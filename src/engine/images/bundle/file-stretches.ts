import { open, type FileHandle } from 'node:fs/promises';
import { abortError } from '../../../errors.ts';
import type { Operation } from '../../operations.ts';
import type { Stretch } from '../ext4/stretches.ts';

export const blockBytes = 4096;
const chunkBytes = 1024 * 1024;
/** Zeros in a row that are worth a hole: fewer cost less as zeros, since what is written is packed */
const minHoleBytes = 64 * 1024;
/** Whatever the size, the map stays readable for everybody. */
const maxStretches = 500_000;
const zeros = Buffer.alloc(chunkBytes);

/** What of a file is not zeros. It follows from the content alone, not from where its host put holes. */
export interface SparseFile {
  readonly sizeBytes: number;
  readonly stretches: readonly Stretch[];
}

/** Reads a whole file, holes included, and finds its stretches. */
export async function findStretches(path: string, operation: Operation): Promise<SparseFile> {
  const file = await open(path, 'r');
  try {
    const { size } = await file.stat();
    const minHole = Math.max(minHoleBytes, Math.ceil(size / maxStretches));
    const stretches: { offset: number; length: number }[] = [];
    // One for all: gigabytes of holes are read in no time, into memory that is there.
    const buffer = Buffer.allocUnsafeSlow(chunkBytes);
    for (let offset = 0; offset < size; offset += chunkBytes) {
      if (operation.signal.aborted) throw abortError(operation.signal);
      const chunk = await readFully(file, offset, buffer.subarray(0, Math.min(chunkBytes, size - offset)));
      for (const found of dataIn(chunk)) {
        const last = stretches.at(-1);
        const start = offset + found.offset;
        if (last && start - (last.offset + last.length) < minHole)
          last.length = start + found.length - last.offset;
        else stretches.push({ offset: start, length: found.length });
      }
      operation.progress({ done: offset + chunk.length, total: size, unit: 'bytes' });
    }
    return { sizeBytes: size, stretches };
  } finally {
    await file.close();
  }
}

/** The bytes of stretches, one after the other, in pieces of at most a megabyte. */
export async function* readStretches(path: string, stretches: readonly Stretch[]): AsyncGenerator<Buffer> {
  const file = await open(path, 'r');
  try {
    for (const { offset, length } of stretches) {
      for (let done = 0; done < length; done += chunkBytes)
        yield await readFully(file, offset + done, Buffer.allocUnsafe(Math.min(chunkBytes, length - done)));
    }
  } finally {
    await file.close();
  }
}

/** Blocks with anything but zeros, neighbours together. */
function* dataIn(chunk: Buffer): Generator<Stretch> {
  if (isZero(chunk, 0, chunk.length)) return;
  let start: number | undefined;
  for (let at = 0; at < chunk.length; at += blockBytes) {
    const isHole = isZero(chunk, at, Math.min(at + blockBytes, chunk.length));
    if (!isHole) start ??= at;
    else if (start !== undefined) {
      yield { offset: start, length: at - start };
      start = undefined;
    }
  }
  if (start !== undefined) yield { offset: start, length: chunk.length - start };
}

function isZero(chunk: Buffer, from: number, to: number): boolean {
  return zeros.compare(chunk, from, to, 0, to - from) === 0;
}

async function readFully(file: FileHandle, offset: number, bytes: Buffer): Promise<Buffer> {
  for (let done = 0; done < bytes.length;) {
    const { bytesRead } = await file.read(bytes, done, bytes.length - done, offset + done);
    // Cut off meanwhile: whoever hashes it finds out.
    if (bytesRead === 0) return bytes.fill(0, done);
    done += bytesRead;
  }
  return bytes;
}
