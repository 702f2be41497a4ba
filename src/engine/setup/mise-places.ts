import { lstat, readdir, readFile, readlink } from 'node:fs/promises';
import { join } from 'node:path';
import { errnoOf } from '../../errors.ts';

/** Something in a tree that mise may read. */
export interface MiseFile {
  /** Path below the tree */
  readonly name: string;
  /** Absent for what is no plain file of a sensible size */
  readonly bytes?: Buffer;
  /** What that is then */
  readonly what?: string;
}

const maxBytes = 1024 * 1024;
const isOfMise = (name: string): boolean =>
  /^\.?(?:mise|rtx)(?:rc)?(?:\..*)?\.(?:toml|lock)$/i.test(name) || /^\.tool-versions/i.test(name);
const isConfiguration = (name: string): boolean => /\.(?:toml|lock)$/i.test(name);

/** Directories in which mise looks, and what there may be for it. */
const places: readonly (readonly [directory: string, isWanted: (name: string) => boolean])[] = [
  ['', isOfMise],
  ['.config', isOfMise],
  ...['mise', '.mise', '.config/mise', 'mise/conf.d', '.mise/conf.d', '.config/mise/conf.d'].map(
    (directory) => [directory, isConfiguration] as const,
  ),
];

/**
 * What mise may read at the top of a tree, by any name that looks like one of its: each version of it knows more. No
 * symlink is followed: it is told as what it is.
 */
export async function findMiseFiles(hostPath: string): Promise<MiseFile[]> {
  const found = new Map<string, MiseFile>();
  for (const [directory, isWanted] of places) {
    const parts = directory === '' ? [] : directory.split('/');
    const above = parts.map((_, index) => parts.slice(0, index + 1).join('/'));
    // Known already, with all that is in it.
    if (above.some((each) => found.has(each))) continue;
    if (directory !== '') {
      const place = await look(hostPath, directory);
      if (place?.what !== undefined) found.set(directory, place);
      if (place?.what !== undefined || !place) continue;
    }
    for (const entry of await namesIn(join(hostPath, directory))) {
      const name = directory === '' ? entry : `${directory}/${entry}`;
      if (!isWanted(entry)) continue;
      const file = await look(hostPath, name);
      if (file && !file.isDirectory) found.set(name, file);
    }
  }
  return [...found.values()].sort((one, other) => (one.name < other.name ? -1 : 1));
}

async function look(
  hostPath: string,
  name: string,
): Promise<(MiseFile & { readonly isDirectory: boolean }) | undefined> {
  const path = join(hostPath, name);
  try {
    const stats = await lstat(path);
    const file = { name, isDirectory: stats.isDirectory() };
    if (stats.isDirectory()) return file;
    if (stats.isSymbolicLink()) return { ...file, what: `a symlink to "${await readlink(path)}"` };
    if (!stats.isFile()) return { ...file, what: 'no plain file' };
    if (stats.size > maxBytes)
      return { ...file, what: `a file of ${stats.size} bytes, too large to be shown` };
    return { ...file, bytes: await readFile(path) };
  } catch (error) {
    const errno = errnoOf(error);
    if (errno === 'ENOENT' || errno === 'ENOTDIR') return undefined;
    if (errno === 'EACCES') return { name, isDirectory: false, what: 'a file that cannot be read' };
    throw error;
  }
}

async function namesIn(directory: string): Promise<string[]> {
  try {
    return await readdir(directory);
  } catch (error) {
    if (errnoOf(error) === undefined) throw error;
    return [];
  }
}
