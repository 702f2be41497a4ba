import { createHash } from 'node:crypto';
import { lstat, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { errnoOf } from '../../errors.ts';

/** Files by which a tree names the tools that it wants from mise. */
export const toolFileNames = [
  'mise.toml',
  '.mise.toml',
  '.tool-versions',
  'mise/config.toml',
  '.config/mise.toml',
  '.config/mise/config.toml',
] as const;

const maxBytes = 1024 * 1024;

/** The tools that a tree names: which file does, and what all such files say, as a hash. */
export interface ToolFiles {
  readonly first: string;
  readonly sha256: string;
}

/** Looks for such files at the top of a tree; undefined when there are none. Their content is mise's business. */
export async function findToolFiles(hostPath: string): Promise<ToolFiles | undefined> {
  const hash = createHash('sha256');
  let first: string | undefined;
  for (const name of toolFileNames) {
    const bytes = await readOwnFile(join(hostPath, name));
    if (!bytes) continue;
    first ??= name;
    hash.update(`${name}\0${bytes.length}\0`).update(bytes);
  }
  return first === undefined ? undefined : { first, sha256: hash.digest('hex') };
}

/** What is no plain file of a sensible size is taken for none: here it only decides whether mise is asked. */
async function readOwnFile(path: string): Promise<Buffer | undefined> {
  try {
    const stats = await lstat(path);
    return stats.isFile() && stats.size <= maxBytes ? await readFile(path) : undefined;
  } catch (error) {
    const errno = errnoOf(error);
    if (errno === 'ENOENT' || errno === 'ENOTDIR' || errno === 'EACCES') return undefined;
    throw error;
  }
}
