import { open, type FileHandle } from 'node:fs/promises';
import type { LayerFile, LayerSource } from './layers/layers.ts';

/** Bytes of a file, such as those of a member in a tar. */
export interface FilePart {
  readonly path: string;
  /** Where they begin */
  readonly start: number;
  /** Where they end; absent: with the file */
  readonly end?: number;
}

/** Fits the processor's cache */
const pieceBytes = 256 * 1024;

/** What makes a layer of a part of a file that `find` finds when the layer is opened. */
export function layerInFile(find: () => Promise<FilePart>): Pick<LayerSource, 'open' | 'openFile'> {
  return {
    open: async function* () {
      yield* readPart(await find());
    },
    openFile: async () => openPart(await find()),
  };
}

/** Each piece is valid until the next one is asked for: all of them are one buffer. */
export async function* readPart(part: FilePart): AsyncGenerator<Buffer> {
  const { file, end } = await openPart(part);
  try {
    const buffer = Buffer.allocUnsafeSlow(pieceBytes);
    for (let position = part.start; position < end;) {
      const { bytesRead } = await file.read(buffer, 0, Math.min(pieceBytes, end - position), position);
      // Cut off meanwhile: whoever reads a layer finds out.
      if (bytesRead === 0) return;
      yield buffer.subarray(0, bytesRead);
      position += bytesRead;
    }
  } finally {
    await file.close();
  }
}

/** All of it; undefined when that is more than `maxBytes`. */
export async function readWhole(part: FilePart, maxBytes: number): Promise<Buffer | undefined> {
  const pieces: Buffer[] = [];
  let length = 0;
  for await (const piece of readPart(part)) {
    length += piece.length;
    if (length > maxBytes) return undefined;
    pieces.push(Buffer.from(piece));
  }
  return Buffer.concat(pieces);
}

async function openPart({
  path,
  start,
  end,
}: FilePart): Promise<LayerFile & { readonly file: FileHandle; readonly end: number }> {
  const file = await open(path, 'r');
  try {
    const last = end ?? (await file.stat()).size;
    return { file, fd: file.fd, start, end: last, reach: async () => last, close: () => file.close() };
  } catch (error) {
    await file.close();
    throw error;
  }
}
