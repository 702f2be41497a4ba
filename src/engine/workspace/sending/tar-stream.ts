import { closeSync, constants, fstatSync, lstatSync, openSync, read, readSync } from 'node:fs';
import { promisify } from 'node:util';
import { errnoOf } from '../../../errors.ts';
import { displayPath, type RawPath } from '../host-tree/raw-path.ts';
import { stampOf } from '../host-tree/tree-files.ts';

/** One member of a tar stream. Owner is root. */
export interface TarEntry {
  readonly path: RawPath;
  readonly mode: number;
  readonly mtimeSeconds: number;
  readonly content:
    | { readonly kind: 'directory' }
    | { readonly kind: 'bytes'; readonly bytes: Buffer }
    /** Another name of a member that came before */
    | { readonly kind: 'link'; readonly target: RawPath }
    | { readonly kind: 'symlink'; readonly target: Buffer; readonly source: HostFile; readonly stamp: string }
    | {
        readonly kind: 'file';
        readonly sizeBytes: number;
        readonly source: HostFile;
        readonly stamp: string;
      };
}

/** Path of a file of this host, as bytes where it is not text. */
export type HostFile = string | Buffer;

/** Members that are made when somebody asks for them, each time: those of a large tree take much memory at once. */
export function madeLater(make: () => Iterable<TarEntry>): Iterable<TarEntry> {
  return { [Symbol.iterator]: () => make()[Symbol.iterator]() };
}

/** A file was not the same when it was sent as when it was looked at. */
export class FileChangedError extends Error {
  readonly path: RawPath;

  constructor(path: RawPath) {
    super(`"${displayPath(path)}" changed while being sent`);
    this.path = path;
  }
}

const blockSize = 512;
const chunkSize = 256 * 1024;
const readAsync = promisify(read);

/**
 * Writes a tar stream (ustar with GNU long names, which busybox reads too). Names are bytes, files of any
 * size are never in memory as a whole.
 *
 * Throws `FileChangedError` when a file is not, or does not stay, what its stamp says.
 */
export async function* tarStream(entries: Iterable<TarEntry>): AsyncGenerator<Buffer> {
  let small: Buffer[] = [];
  let smallBytes = 0;
  for (const entry of entries) {
    for await (const piece of entryPieces(entry)) {
      small.push(piece);
      smallBytes += piece.length;
      if (smallBytes < chunkSize) continue;
      yield Buffer.concat(small);
      small = [];
      smallBytes = 0;
    }
  }
  yield Buffer.concat([...small, Buffer.alloc(2 * blockSize)]);
}

async function* entryPieces(entry: TarEntry): AsyncGenerator<Buffer> {
  const { content } = entry;
  switch (content.kind) {
    case 'directory':
      yield header(entry, { type: '5', size: 0 });
      return;
    case 'bytes':
      yield header(entry, { type: '0', size: content.bytes.length });
      yield padded(content.bytes);
      return;
    case 'link':
      yield header(entry, { type: '1', size: 0, target: Buffer.from(content.target, 'latin1') });
      return;
    case 'symlink':
      if (stampAt(content.source) !== content.stamp) throw new FileChangedError(entry.path);
      yield header(entry, { type: '2', size: 0, target: content.target });
      return;
    case 'file':
      yield header(entry, { type: '0', size: content.sizeBytes });
      yield* filePieces(entry.path, content);
  }
}

async function* filePieces(
  path: RawPath,
  { source, sizeBytes, stamp }: { source: HostFile; sizeBytes: number; stamp: string },
): AsyncGenerator<Buffer> {
  const fd = openForReading(path, source);
  try {
    const isSame = (): boolean => stampOf(fstatSync(fd, { bigint: true })) === stamp;
    if (!isSame()) throw new FileChangedError(path);
    for (let at = 0; at < sizeBytes;) {
      const chunk = Buffer.allocUnsafe(Math.min(chunkSize, sizeBytes - at));
      // Small files in one synchronous read: handing each to the thread pool would cost ten times the read itself.
      const count =
        sizeBytes <= chunkSize
          ? readSync(fd, chunk)
          : (await readAsync(fd, chunk, 0, chunk.length, at)).bytesRead;
      if (count === 0) throw new FileChangedError(path);
      yield chunk.subarray(0, count);
      at += count;
    }
    if (!isSame()) throw new FileChangedError(path);
  } finally {
    closeSync(fd);
  }
  const rest = sizeBytes % blockSize;
  if (rest > 0) yield Buffer.alloc(blockSize - rest);
}

function openForReading(path: RawPath, source: HostFile): number {
  try {
    // Not blocking: what was a file may be a pipe by now, and opening one waits for a writer.
    return openSync(source, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK);
  } catch (error) {
    const errno = errnoOf(error);
    if (errno === 'ENOENT' || errno === 'ENOTDIR' || errno === 'ELOOP' || errno === 'ENXIO') {
      throw new FileChangedError(path);
    }
    throw error;
  }
}

function stampAt(source: HostFile): string | undefined {
  const stats = lstatSync(source, { bigint: true, throwIfNoEntry: false });
  return stats && stampOf(stats);
}

interface HeaderFields {
  readonly type: string;
  readonly size: number;
  readonly target?: Buffer;
}

function header(entry: TarEntry, fields: HeaderFields): Buffer {
  const name = Buffer.from(entry.path, 'latin1');
  const target = fields.target ?? Buffer.alloc(0);
  return Buffer.concat([
    ...(name.length > 100 ? longName('L', name) : []),
    ...(target.length > 100 ? longName('K', target) : []),
    block(name, entry, { ...fields, target }),
  ]);
}

/** GNU's way to say a name of more than 100 bytes: a member of its own before the one it names. */
function longName(type: string, name: Buffer): Buffer[] {
  const text = Buffer.concat([name, Buffer.alloc(1)]);
  const carrier = block(
    Buffer.from('././@LongLink'),
    { mode: 0o644, mtimeSeconds: 0 },
    { type, size: text.length },
  );
  return [carrier, padded(text)];
}

function block(
  name: Buffer,
  { mode, mtimeSeconds }: { mode: number; mtimeSeconds: number },
  { type, size, target }: HeaderFields,
): Buffer {
  const bytes = Buffer.alloc(blockSize);
  name.copy(bytes, 0, 0, 100);
  octal(bytes, 100, 8, mode);
  octal(bytes, 108, 8, 0);
  octal(bytes, 116, 8, 0);
  octal(bytes, 124, 12, size);
  octal(bytes, 136, 12, mtimeSeconds);
  bytes.write(type, 156, 'latin1');
  target?.copy(bytes, 157, 0, 100);
  bytes.write('ustar  \0', 257, 'latin1');
  bytes.fill(' ', 148, 156);
  const sum = bytes.reduce((total, byte) => total + byte, 0);
  bytes.write(`${sum.toString(8).padStart(6, '0')}\0 `, 148, 'latin1');
  return bytes;
}

/** Octal digits, or binary with the top bit set where they do not fit (files of 8 GiB and more). */
function octal(bytes: Buffer, offset: number, length: number, value: number): void {
  const digits = value.toString(8);
  if (digits.length < length) {
    bytes.write(`${digits.padStart(length - 1, '0')}\0`, offset, 'latin1');
    return;
  }
  bytes.writeBigUInt64BE(BigInt(value), offset + length - 8);
  bytes[offset] = 0x80;
}

function padded(content: Buffer): Buffer {
  const rest = content.length % blockSize;
  return rest === 0 ? content : Buffer.concat([content, Buffer.alloc(blockSize - rest)]);
}
