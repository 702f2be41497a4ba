import { createHash } from 'node:crypto';
import { lstat, readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { parse, TomlError } from 'smol-toml';
import * as z from 'zod/mini';
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

/** Other files that mise reads where it finds those. They are for variables, hooks and tasks as often as for tools. */
const otherFileNames = [
  ...['mise.local.toml', '.mise.local.toml', 'mise/config.local.toml', '.config/mise.local.toml'],
  ...['.config/mise/config.local.toml', '.mise/config.toml', '.mise/config.local.toml'],
  ...['.miserc.toml', '.config/miserc.toml', '.config/mise/miserc.toml'],
];
const fileDirectories = ['.config/mise/conf.d', 'mise/conf.d', '.mise/conf.d'];

/** A file by which mise would do more than install tools: set variables, run commands. */
export interface DemandingFile {
  readonly name: string;
  /** All of it */
  readonly text: string;
}

/** The tools that a tree names: which file does, and what all such files say, as a hash. */
export interface ToolFiles {
  readonly first: string;
  readonly sha256: string;
  /** What takes consent */
  readonly demanding: readonly DemandingFile[];
}

/** Looks for such files at the top of a tree; undefined when there are none. */
export async function findToolFiles(hostPath: string): Promise<ToolFiles | undefined> {
  const hash = createHash('sha256');
  const demanding: DemandingFile[] = [];
  let first: string | undefined;
  for (const name of [...toolFileNames, ...otherFileNames, ...(await filesIn(hostPath))]) {
    const bytes = await readOwnFile(join(hostPath, name));
    if (!bytes) continue;
    first ??= name;
    hash.update(`${name}\0${bytes.length}\0`).update(bytes);
    const text = bytes.toString('utf8');
    if (!namesToolsOnly(name, text)) demanding.push({ name, text });
  }
  if (first === undefined || !toolFileNames.some((name) => name === first)) return undefined;
  return { first, sha256: hash.digest('hex'), demanding };
}

async function filesIn(hostPath: string): Promise<string[]> {
  const listed = fileDirectories.map(async (directory) => {
    const names = await readdir(join(hostPath, directory)).catch(() => []);
    return names.filter((name) => name.endsWith('.toml')).map((name) => `${directory}/${name}`);
  });
  return (await Promise.all(listed)).flat().sort();
}

const version = z.union([z.string(), z.strictObject({ version: z.string() })]);
const toolsOnly = z.strictObject({
  min_version: z.optional(z.unknown()),
  tools: z.optional(z.record(z.string(), z.union([version, z.array(version)]))),
});

/** Whether mise installs tools by this file and does nothing else. Text in `{{…}}` is worked out, by commands too. */
function namesToolsOnly(name: string, text: string): boolean {
  if (/\{[{%#]/.test(text)) return false;
  if (name === '.tool-versions') return true;
  try {
    return z.safeParse(toolsOnly, parse(text)).success;
  } catch (error) {
    if (error instanceof TomlError) return false;
    throw error;
  }
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
