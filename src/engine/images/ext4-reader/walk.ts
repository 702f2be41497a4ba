import { Turns } from '../ext4/turns.ts';
import { DamagedFilesystem } from './damage.ts';
import type { DirectoryEntry } from './directory.ts';
import { rootInode, type Ext4Reader } from './ext4-reader.ts';
import type { Inode } from './inode.ts';
import { sortedNames } from './sorted-names.ts';

/** A name in the filesystem and what it names. */
export interface WalkedEntry {
  /** Byte string without leading slash; empty for the root */
  readonly path: string;
  readonly inode: Inode;
}

/** How much of a filesystem is walked: all names of a directory are in memory while it is looked at. */
export interface WalkLimits {
  readonly entries: number;
  readonly entriesOfDirectory: number;
}

const maxPathBytes = 4095;
const defaultLimits: WalkLimits = { entries: 2_000_000, entriesOfDirectory: 1_000_000 };

/** A directory of which not all names were visited. */
interface OpenDirectory {
  readonly path: string;
  /** The next one is the last */
  readonly left: DirectoryEntry[];
}

/**
 * Everything in a filesystem, a directory before what is in it, names in the order of their bytes. `lost+found` is
 * left out when it is empty, as it comes with every filesystem.
 */
export async function* walkFilesystem(
  reader: Ext4Reader,
  limits: WalkLimits = defaultLimits,
): AsyncGenerator<WalkedEntry> {
  const root = await reader.inode(rootInode);
  if (root.kind !== 'directory') throw new DamagedFilesystem('has no root directory');
  yield { path: '', inode: root };
  const seen = new Set([rootInode]);
  const open: OpenDirectory[] = [{ path: '', left: await namesIn(reader, root, limits) }];
  let count = open[0]!.left.length;
  const turns = new Turns();
  for (let directory = open.at(-1); directory; directory = open.at(-1)) {
    const entry = directory.left.pop();
    if (!entry) {
      open.pop();
      continue;
    }
    if (turns.isDue) await turns.share();
    const path = directory.path === '' ? entry.name : `${directory.path}/${entry.name}`;
    if (path.length > maxPathBytes)
      throw new DamagedFilesystem(`has paths longer than ${maxPathBytes} bytes`);
    const inode = await reader.inode(entry.inode);
    if (inode.kind !== 'directory') {
      yield { path, inode };
      continue;
    }
    if (seen.has(inode.number))
      throw new DamagedFilesystem(`has two names for the directory "${Buffer.from(path, 'latin1')}"`);
    seen.add(inode.number);
    const left = await namesIn(reader, inode, limits);
    if (path === 'lost+found' && left.length === 0) continue;
    count += left.length;
    if (count > limits.entries) throw new DamagedFilesystem(`has more than ${limits.entries} entries`);
    yield { path, inode };
    open.push({ path, left });
  }
}

/** The first one last. */
async function namesIn(
  reader: Ext4Reader,
  inode: Inode,
  { entriesOfDirectory }: WalkLimits,
): Promise<DirectoryEntry[]> {
  const entries: DirectoryEntry[] = [];
  for await (const some of reader.names(inode)) {
    for (const entry of some) entries.push(entry);
    if (entries.length > entriesOfDirectory) {
      throw new DamagedFilesystem(
        `has a directory (inode ${inode.number}) with more than ${entriesOfDirectory} names`,
      );
    }
  }
  return (await sortedNames(entries)).reverse();
}

/** Finds what a path leads to, following symlinks inside the filesystem as a guest would; undefined if nothing. */
export async function findInode(reader: Ext4Reader, path: string): Promise<Inode | undefined> {
  const names = path.split('/').filter((name) => name !== '');
  const parents: Inode[] = [await reader.inode(rootInode)];
  for (let hops = 0; names.length > 0;) {
    const name = names.shift()!;
    if (name === '.') continue;
    if (name === '..') {
      if (parents.length > 1) parents.pop();
      continue;
    }
    const directory = parents.at(-1)!;
    if (directory.kind !== 'directory') return undefined;
    const entry = await findName(reader, directory, name);
    if (!entry) return undefined;
    const inode = await reader.inode(entry.inode);
    if (inode.kind !== 'symlink') {
      parents.push(inode);
      continue;
    }
    if (++hops > 40) return undefined;
    const target = await reader.target(inode);
    if (target.startsWith('/')) parents.length = 1;
    names.unshift(...target.split('/').filter((part) => part !== ''));
  }
  return parents.at(-1);
}

async function findName(
  reader: Ext4Reader,
  directory: Inode,
  name: string,
): Promise<DirectoryEntry | undefined> {
  for await (const some of reader.names(directory)) {
    const found = some.find((entry) => entry.name === name);
    if (found) return found;
  }
  return undefined;
}
