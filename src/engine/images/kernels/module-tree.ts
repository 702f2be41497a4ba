import { createReadStream } from 'node:fs';
import { readdir, readFile, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { errnoOf } from '../../../errors.ts';
import { unpack } from './unpack.ts';
import { KernelRefusal } from './kernel-refusal.ts';
import { moduleName } from './module-file.ts';

/** The modules of one kernel, wherever they are. */
export interface ModuleTree {
  /** For messages */
  readonly label: string;
  /** How to read each, by name with underscores */
  readonly modules: ReadonlyMap<string, ModuleSource>;
  /** Names of what would be modules and is built in; undefined when the list is missing */
  readonly builtin: ReadonlySet<string> | undefined;
}

export interface ModuleSource {
  /** As its kernel's developers named the file */
  readonly fileName: string;
  readonly open: () => AsyncIterable<Buffer>;
}

const maxModules = 100_000;
/** Those of distributions have 20 to 60 KiB. */
export const maxListBytes = 1024 * 1024;

/** The list that says what is built in. */
export const builtinList = 'modules.builtin';

/** A module's content, unpacked, of at most so many bytes. */
export async function readModule(source: ModuleSource, maxBytes: number): Promise<Buffer> {
  const pieces: Buffer[] = [];
  for await (const piece of unpack(source.open(), maxBytes)) pieces.push(Buffer.from(piece));
  return Buffer.concat(pieces);
}

/** Names in the lines of a `modules.builtin`: `kernel/fs/ext4/ext4.ko`. */
export function parseBuiltinList(text: string): Set<string> {
  const lines = text.split('\n').filter((line) => line !== '');
  return new Set(lines.map((line) => moduleName(line.slice(line.lastIndexOf('/') + 1))));
}

/** True for names that modules have, packed or not. */
export function isModuleName(fileName: string): boolean {
  return /^[^/]+\.ko(?:\.(?:xz|zst|gz))?$/.test(fileName);
}

/**
 * The modules of a kernel in a directory of the host: `/lib/modules/VERSION` itself, or a directory with it below, such
 * as the root of an unpacked package. Only what is needed gets read.
 */
export async function directoryTree(directory: string, version: string): Promise<ModuleTree> {
  const places = ['.', version, join('lib/modules', version), join('usr/lib/modules', version)];
  for (const place of places) {
    const root = join(directory, place);
    const names = await namesIn(root);
    if (names.includes(builtinList) || names.includes('kernel')) return treeAt(root);
  }
  throw new KernelRefusal(
    `has no modules of Linux ${version}: neither they nor "lib/modules/${version}" are there`,
  );
}

async function treeAt(root: string): Promise<ModuleTree> {
  const modules = new Map<string, ModuleSource>();
  const visit = async (directory: string, depth: number): Promise<void> => {
    for (const entry of await readdir(directory, { withFileTypes: true })) {
      const path = join(directory, entry.name);
      // Links, such as "build", lead out of the tree; devices and pipes are not for reading.
      if (entry.isDirectory() && depth < 32) await visit(path, depth + 1);
      if (!entry.isFile() || !isModuleName(entry.name)) continue;
      if (modules.size === maxModules) throw new KernelRefusal(`has more than ${maxModules} modules`);
      modules.set(moduleName(entry.name), { fileName: entry.name, open: () => createReadStream(path) });
    }
  };
  await visit(root, 0);
  return { label: root, modules, builtin: await readBuiltinList(join(root, builtinList)) };
}

async function readBuiltinList(path: string): Promise<Set<string> | undefined> {
  try {
    const { size } = await stat(path);
    if (size > maxListBytes) throw new KernelRefusal(`has a "${builtinList}" of ${size} bytes`);
    return parseBuiltinList(await readFile(path, 'latin1'));
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return undefined;
    throw error;
  }
}

async function namesIn(directory: string): Promise<string[]> {
  try {
    return await readdir(directory);
  } catch (error) {
    if (['ENOENT', 'ENOTDIR'].includes(errnoOf(error) ?? '')) return [];
    throw error;
  }
}
