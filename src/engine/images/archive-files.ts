import { open, stat, type FileHandle } from 'node:fs/promises';
import { join } from 'node:path';
import { BangerError, errnoOf } from '../../errors.ts';
import { type FilePart, readWhole } from './file-part.ts';
import { parsePax } from './layers/tar-pax.ts';
import { parseTarHeader, tarBlockSize, type TarHeader } from './layers/tar-header.ts';

/** What a name says of the tar it is in: an archive of an image, a root filesystem, or neither. */
export type MemberKind = 'archive' | 'rootfs' | 'other';

/** Files of an image archive, by name; a directory and a tar look the same from here. */
export interface ArchiveFiles {
  readonly has: (name: string) => Promise<boolean>;
  /** Throws when the file is missing or larger than `maxBytes` */
  readonly read: (name: string, maxBytes: number) => Promise<Buffer>;
  /** Throws when the file is missing */
  readonly find: (name: string) => Promise<FilePart>;
}

/** Where a file's bytes are in the tar, or what it is a link to. */
type Member = { readonly offset: number; readonly size: number } | { readonly target: string };

/** More members than this are a root filesystem, not an archive of layers. */
const maxMembers = 10_000;
const maxHeaders = 3 * maxMembers;
/** Extended headers, one and all: they are read by the engine itself, and hold a name each. */
const maxPaxBytes = 64 * 1024;
const maxAllPaxBytes = 16 * 1024 * 1024;
/** Files beside those of an archive, such as a README */
const maxOthers = 100;

/** The files of a directory. */
export function directoryFiles(directory: string): ArchiveFiles {
  const find = async (name: string): Promise<string | undefined> => {
    const path = join(directory, name);
    try {
      return (await stat(path)).isFile() ? path : undefined;
    } catch (error) {
      if (['ENOENT', 'ENOTDIR'].includes(errnoOf(error) ?? '')) return undefined;
      throw error;
    }
  };
  return filesOf(directory, async (name) => {
    const path = await find(name);
    return path === undefined ? undefined : { path, start: 0 };
  });
}

/** The files of a tar, and whether there are others than those of an archive. */
interface TarFiles extends ArchiveFiles {
  readonly hasOthers: boolean;
}

/**
 * Indexes a plain tar without reading its contents. Returns undefined as soon as it cannot be an archive of an
 * image: not a tar, or with what a root filesystem has.
 */
export async function tarFiles(
  path: string,
  kindOf: (name: string) => MemberKind,
): Promise<TarFiles | undefined> {
  const index = await indexTar(path, kindOf);
  if (!index) return undefined;
  const files = filesOf(path, async (name) => {
    const member = follow(index.members, name);
    return member && { path, start: member.offset, end: member.offset + member.size };
  });
  return { ...files, hasOthers: index.others > 0 };
}

function filesOf(where: string, find: (name: string) => Promise<FilePart | undefined>): ArchiveFiles {
  const get = async (name: string): Promise<FilePart> => {
    const part = await find(name);
    if (part) return part;
    throw new BangerError('invalid_argument', `"${where}" lacks the file "${name.slice(0, 200)}"`, {
      hint: 'Write the archive again, with: docker save IMAGE -o FILE',
    });
  };
  return {
    find: get,
    has: async (name) => (await find(name)) !== undefined,
    read: async (name, maxBytes) => {
      const bytes = await readWhole(await get(name), maxBytes);
      if (bytes) return bytes;
      throw new BangerError(
        'invalid_argument',
        `"${name.slice(0, 200)}" in "${where}" is larger than it should be`,
      );
    },
  };
}

async function indexTar(
  path: string,
  kindOf: (name: string) => MemberKind,
): Promise<{ readonly members: ReadonlyMap<string, Member>; readonly others: number } | undefined> {
  const file = await open(path, 'r');
  try {
    const { size } = await file.stat();
    const members = new Map<string, Member>();
    let others = 0;
    let headers = 0;
    let paxBytes = 0;
    let pax: ReadonlyMap<string, string> = new Map();
    for (let position = 0; position + tarBlockSize <= size;) {
      const header = await headerAt(file, position);
      if (header === 'end') break;
      if (header === 'damaged' || ++headers > maxHeaders) return undefined;
      const length = Number(pax.get('size') ?? header.size);
      const offset = position + tarBlockSize;
      if (!Number.isSafeInteger(length) || length < 0 || offset + length > size) return undefined;
      position = offset + Math.ceil(length / tarBlockSize) * tarBlockSize;
      if (header.type === 'x') {
        paxBytes += length;
        if (length > maxPaxBytes || paxBytes > maxAllPaxBytes) return undefined;
        pax = parsePax(await bytesAt(file, offset, length)).records;
        continue;
      }
      const name = cleanMemberName(pax.get('path') ?? header.path);
      const target = pax.get('linkpath') ?? header.linkPath;
      pax = new Map();
      // Global headers and the directory itself hold no files. Names longer than a header come with pax in these archives.
      if (header.type === 'g' || name === '') continue;
      const kind = kindOf(name);
      if (kind === 'rootfs' || members.size === maxMembers) return undefined;
      if (header.type === '5') continue;
      if (kind === 'other' && ++others > maxOthers) return undefined;
      if (header.type === '2') members.set(name, { target: resolveLink(name, target) });
      else if (header.type === '1') members.set(name, { target: cleanMemberName(target) });
      else members.set(name, { offset, size: length });
    }
    return { members, others };
  } finally {
    await file.close();
  }
}

async function headerAt(file: FileHandle, position: number): Promise<TarHeader | 'end' | 'damaged'> {
  const block = await bytesAt(file, position, tarBlockSize);
  if (block.every((byte) => byte === 0)) return 'end';
  try {
    return parseTarHeader(block);
  } catch {
    // Whatever is wrong with it: the converter will find it too, and say it better.
    return 'damaged';
  }
}

async function bytesAt(file: FileHandle, position: number, length: number): Promise<Buffer> {
  const bytes = Buffer.alloc(length);
  await file.read(bytes, 0, length, position);
  return bytes;
}

/** `docker save` once wrote repeated layers as links to each other; a circle leads nowhere. */
function follow(
  members: ReadonlyMap<string, Member>,
  name: string,
): { readonly offset: number; readonly size: number } | undefined {
  let member = members.get(cleanMemberName(name));
  for (let hops = 0; member && 'target' in member && hops < 10; hops++) member = members.get(member.target);
  return member && 'target' in member ? undefined : member;
}

/** As it is below the directory that was packed, whatever word that had for tar. */
export function cleanMemberName(name: string): string {
  return name.replace(/^(?:\.?\/)+/, '').replace(/\/+$/, '');
}

/** Only within the archive: a link that leaves it leads to a name that no member has. */
function resolveLink(from: string, target: string): string {
  return join('/', from, '..', target).slice(1);
}
