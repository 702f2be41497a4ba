import { appendFileSync, closeSync, fstatSync, openSync, readFileSync, readSync, statSync } from 'node:fs';
import { BangerError } from '../errors.ts';

/**
 * Files after the end of an executable: their bytes, an index as JSON, its length (64 bits, little endian), and the
 * mark. The loader of the system ignores all of it.
 *
 * They are read, not mapped as the assets of a single executable are: pages of a mapping stay in the engine's memory
 * long after the last asset was unpacked.
 */
export interface Attachments {
  size(name: string): number;
  text(name: string): string;
  bytes(name: string): Buffer;
  chunks(name: string): Iterable<Buffer>;
}

const mark = Buffer.from('\0banger\n');
const trailerBytes = mark.length + 8;
const chunkBytes = 256 * 1024;

/** The running program's own file, even where another build has taken its name meanwhile. */
export const ownExecutable = '/proc/self/exe';

type Index = Readonly<Record<string, { readonly offset: number; readonly length: number }>>;

/** Appends files to an executable. Only a build does that, once. */
export function attachFiles(executable: string, files: Readonly<Record<string, string>>): void {
  const index: Record<string, Index[string]> = {};
  for (const [name, path] of Object.entries(files)) {
    const content = readFileSync(path);
    index[name] = { offset: statSync(executable).size, length: content.length };
    appendFileSync(executable, content);
  }
  const encoded = Buffer.from(JSON.stringify(index));
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(BigInt(encoded.length));
  appendFileSync(executable, Buffer.concat([encoded, length, mark]));
}

/** The files attached to an executable, which is looked at when the first is asked for. */
export function attachmentsOf(executable: string): Attachments {
  let known: { readonly descriptor: number; readonly index: Index } | undefined;
  const find = (name: string): { descriptor: number; offset: number; length: number } => {
    known ??= openIndex(executable);
    const entry = known.index[name];
    if (!entry) throw new BangerError('internal', `This program does not carry "${name}"`);
    return { descriptor: known.descriptor, ...entry };
  };
  const bytes = (name: string): Buffer => {
    const { descriptor, offset, length } = find(name);
    return readAt(descriptor, offset, length);
  };
  const chunks = function* (name: string): Iterable<Buffer> {
    const { descriptor, offset, length } = find(name);
    for (let done = 0; done < length; done += chunkBytes) {
      yield readAt(descriptor, offset + done, Math.min(chunkBytes, length - done));
    }
  };
  return {
    size: (name) => find(name).length,
    text: (name) => bytes(name).toString('utf8'),
    bytes,
    chunks,
  };
}

/** Kept open: the file of a program that runs may be replaced or deleted. */
function openIndex(executable: string): { descriptor: number; index: Index } {
  const descriptor = openSync(executable, 'r');
  const { size } = fstatSync(descriptor);
  const trailer = readAt(descriptor, Math.max(0, size - trailerBytes), trailerBytes);
  const length = Number(trailer.readBigUInt64LE(0));
  if (!trailer.subarray(8).equals(mark) || length > size - trailerBytes) {
    closeSync(descriptor);
    throw new BangerError('internal', 'This program was cut short: the files it carries are missing', {
      hint: 'Install it again',
    });
  }
  const text = readAt(descriptor, size - trailerBytes - length, length).toString('utf8');
  return { descriptor, index: JSON.parse(text) as Index };
}

function readAt(descriptor: number, position: number, length: number): Buffer {
  const buffer = Buffer.allocUnsafeSlow(length);
  let done = 0;
  while (done < length) {
    const read = readSync(descriptor, buffer, done, length - done, position + done);
    if (read === 0)
      throw new BangerError('internal', 'This program was cut short', { hint: 'Install it again' });
    done += read;
  }
  return buffer;
}
