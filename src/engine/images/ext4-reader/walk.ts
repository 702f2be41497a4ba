import { DamagedFilesystem } from './damage.ts';
import { rootInode, type Ext4Reader } from './ext4-reader.ts';
import type { Inode } from './inode.ts';

/** A name in the filesystem and what it names. */
export interface WalkedEntry {
  /** Byte string without leading slash; empty for the root */
  readonly path: string;
  readonly inode: Inode;
}

const maxPathBytes = 4095;
const maxEntries = 5_000_000;

/**
 * Everything in a filesystem, a directory before what is in it, names in the order of their bytes. `lost+found` is
 * left out when it is empty, as it comes with every filesystem.
 */
export async function* walkFilesystem(reader: Ext4Reader): AsyncGenerator<WalkedEntry> {
  const root = await reader.inode(rootInode);
  if (root.kind !== 'directory') throw new DamagedFilesystem('has no root directory');
  const seen = new Set([rootInode]);
  // Popped from the end, so that a directory's names wait in reverse.
  const waiting: { readonly path: string; readonly number: number }[] = [{ path: '', number: rootInode }];
  let count = 0;
  for (let next = waiting.pop(); next; next = waiting.pop()) {
    const { path, number } = next;
    const inode = number === rootInode ? root : await reader.inode(number);
    if (inode.kind !== 'directory') {
      yield { path, inode };
      continue;
    }
    if (number !== rootInode && seen.has(number))
      throw new DamagedFilesystem(`has two names for the directory "${Buffer.from(path, 'latin1')}"`);
    seen.add(number);
    const entries = await reader.entries(inode);
    if (path === 'lost+found' && entries.length === 0) continue;
    yield { path, inode };
    count += entries.length;
    if (count > maxEntries) throw new DamagedFilesystem(`has more than ${maxEntries} entries`);
    for (const entry of entries.reverse()) {
      const child = path === '' ? entry.name : `${path}/${entry.name}`;
      if (child.length > maxPathBytes)
        throw new DamagedFilesystem(`has paths longer than ${maxPathBytes} bytes`);
      waiting.push({ path: child, number: entry.inode });
    }
  }
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
    const entry = (await reader.entries(directory)).find((one) => one.name === name);
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
