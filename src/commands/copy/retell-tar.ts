import {
  endOfTar,
  gnuMemberHeader,
  memberHeader,
  padding,
  type TarMember,
} from '../../engine/images/export/tar-writer.ts';
import type { TarEntryType } from '../../engine/images/layers/tar-entry.ts';
import type { CopyCount } from '../../engine/copy/local-tar.ts';
import type { SentEntry } from './tar-entries.ts';

const typeCharacters: Readonly<Record<TarEntryType, string>> = {
  file: '0',
  hardlink: '1',
  symlink: '2',
  char: '3',
  block: '4',
  directory: '5',
  fifo: '6',
};

export interface RetellInput {
  /** `gnu` for busybox, which does not know PAX */
  readonly format: 'gnu' | 'pax';
  /** What the root is called */
  readonly rootName: string | undefined;
  /** Owners, and the bits that let programs run as their owner, are kept; otherwise everything is root's */
  readonly keepOwners: boolean;
  readonly count: CopyCount;
}

type Write = (chunk: Buffer) => Promise<void>;

const zeros = Buffer.alloc(64 * 1024);

/** Writes a tar anew from its entries, so that nothing is passed on that has not been understood. */
export async function retellTar(
  entries: AsyncIterable<SentEntry>,
  input: RetellInput,
  write: Write,
): Promise<void> {
  const header = input.format === 'gnu' ? gnuMemberHeader : memberHeader;
  const directories: Buffer[] = [];
  for await (const entry of entries) {
    // A directory that is there already is not given other permissions than it has.
    if (entry.names.length === 0 && input.format === 'gnu') continue;
    const own = header(memberOf(entry, input));
    await write(own);
    if (entry.type === 'directory') directories.push(own);
    else input.count.files++;
    if (entry.type === 'file') await writeContent(entry, input.count, write);
  }
  // Busybox sets the time of a directory before what is in it comes: the second time it stays.
  if (input.format === 'gnu') for (const own of directories.reverse()) await write(own);
  await write(endOfTar);
}

function memberOf(entry: SentEntry, { rootName, keepOwners }: RetellInput): TarMember {
  const pathOf = (names: readonly string[]): string =>
    [...(rootName === undefined ? [] : [rootName]), ...names].join('/') || '.';
  const isDirectory = entry.type === 'directory';
  const path = pathOf(entry.names);
  return {
    path: isDirectory ? `${path}/` : path,
    type: typeCharacters[entry.type],
    mode: entry.mode & (keepOwners ? 0o7777 : 0o1777),
    uid: keepOwners ? entry.uid : 0,
    gid: keepOwners ? entry.gid : 0,
    size: entry.size,
    mtime: entry.mtime,
    linkPath: entry.type === 'hardlink' ? pathOf(entry.targetNames) : entry.linkPath,
    device: { major: entry.major, minor: entry.minor },
  };
}

/** A file's bytes with its holes filled, in order. */
async function writeContent(entry: SentEntry, count: CopyCount, write: Write): Promise<void> {
  let at = 0;
  await entry.body(async (offset, data) => {
    await writeZeros(offset - at, write);
    await write(data);
    at = offset + data.length;
    count.bytes += data.length;
  });
  await writeZeros(entry.size - at, write);
  await write(padding(entry.size));
}

async function writeZeros(length: number, write: Write): Promise<void> {
  for (let left = length; left > 0; left -= zeros.length) await write(zeros.subarray(0, left));
}
