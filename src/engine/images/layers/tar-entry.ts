import type { Timestamp } from '../ext4/nodes.ts';
import type { Stretches } from '../ext4/stretches.ts';
import { LayerRefusal, shownName } from './layer-refusal.ts';
import type { TarHeader } from './tar-header.ts';
import { type ParsedPax, paxInteger, paxTime, paxXattrs } from './tar-pax.ts';

export type TarEntryType = 'file' | 'hardlink' | 'symlink' | 'char' | 'block' | 'directory' | 'fifo';

/** One entry with everything its extended headers say. Texts are byte strings. */
export interface TarEntry {
  readonly type: TarEntryType;
  readonly path: string;
  readonly linkPath: string;
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
  readonly mtime: Timestamp;
  /** Of the file as it will be, holes included */
  readonly size: number;
  /** The parts of the file that the archive has */
  readonly stretches: Stretches;
  readonly major: number;
  readonly minor: number;
  readonly xattrs: ReadonlyMap<string, Buffer> | undefined;
}

/** Types as in POSIX and GNU tar. A dump directory (`D`) has a list of names as data, which is skipped. */
const entryTypes: Readonly<Record<string, TarEntryType>> = {
  '0': 'file',
  '7': 'file',
  S: 'file',
  '1': 'hardlink',
  '2': 'symlink',
  '3': 'char',
  '4': 'block',
  '5': 'directory',
  D: 'directory',
  '6': 'fifo',
};

/** How much a file has, and where. */
export type Contents = Pick<TarEntry, 'size' | 'stretches'>;

export interface EntryParts {
  readonly header: TarHeader;
  readonly pax: ParsedPax;
  readonly longLink: string | undefined;
  readonly contents: Contents;
}

/** What a header and all that goes before it say of an entry. Throws a `LayerRefusal` where that makes no sense. */
export function entryOf(
  type: TarEntryType,
  path: string,
  { header, pax, longLink, contents }: EntryParts,
): TarEntry {
  const { records } = pax;
  return {
    type,
    path,
    linkPath: records.get('linkpath') || longLink || header.linkPath,
    mode: header.mode & 0o7777,
    uid: idOf(paxInteger(records, 'uid') ?? header.uid),
    gid: idOf(paxInteger(records, 'gid') ?? header.gid),
    mtime: paxTime(records, 'mtime') ?? { seconds: header.mtime, nanoseconds: 0 },
    ...contents,
    major: header.major,
    minor: header.minor,
    xattrs: paxXattrs(records),
  };
}

/** Throws a `LayerRefusal` for a type that is none of an image. */
export function typeOf(header: TarHeader, path: string): TarEntryType {
  const type = entryTypes[header.type];
  if (!type) throw new LayerRefusal(`is of unknown type "${shownName(header.type)}"`);
  // Before ustar, a directory was a file whose name ends in a slash.
  if (header.type === '0' && path.endsWith('/')) return 'directory';
  return type;
}

function idOf(id: number): number {
  if (id < 0 || id > 0xffffffff) throw new LayerRefusal(`has the owner ${id}`);
  return id;
}
