import { createReadStream } from 'node:fs';
import { stat } from 'node:fs/promises';
import { join } from 'node:path';
import { BangerError, errnoOf } from '../../../errors.ts';
import { PackedRefusal } from '../compression/packed-refusal.ts';
import { LayerRefusal } from '../layers/layer-refusal.ts';
import { headBytes, kindOf, readHead, refusedFile } from './boot-image.ts';
import { compressionOf, unpack } from './unpack.ts';
import { readPackage, type KernelPackage, type Stretch } from './kernel-package.ts';
import { KernelRefusal } from './kernel-refusal.ts';
import { directoryTree, type ModuleTree } from './module-tree.ts';

/** What a user gave to make a kernel of, opened. */
export interface KernelSource {
  readonly image: Stretch;
  /** The configuration it was built with, when there is one beside the image */
  readonly config: string | undefined;
  /** The modules of a version; undefined when none were given */
  readonly modulesOf: (version: string) => Promise<ModuleTree | undefined>;
}

export interface SourcePaths {
  /** A kernel, a Debian package, or a tar of `boot` and `lib/modules` */
  readonly path: string;
  /** A directory, or a package that has the modules only */
  readonly modulesPath: string | undefined;
}

/** Opens what is at the paths. Packages are unpacked into the staging directory as far as they are of use. */
export async function openKernelSource(
  { path, modulesPath }: SourcePaths,
  staging: string,
  visit: (bytes: number) => void,
): Promise<KernelSource> {
  // Before the kernel, which takes seconds to unpack.
  const kind = modulesPath === undefined ? undefined : await about(modulesPath, () => pathKind(modulesPath));
  const main = await about(path, () => openMain(path, { scratch: join(staging, 'package'), visit }));
  if (modulesPath === undefined) {
    const { trees } = main;
    return { ...main, modulesOf: async (version) => trees && pick(trees, { version, path }) };
  }
  if (kind === 'directory')
    return { ...main, modulesOf: (version) => about(modulesPath, () => directoryTree(modulesPath, version)) };
  const modules = await about(modulesPath, () =>
    openPackage(modulesPath, { scratch: join(staging, 'modules'), visit }),
  );
  return { ...main, modulesOf: async (version) => pick(modules.trees, { version, path: modulesPath }) };
}

/** Runs work on a file, whose refusals become errors that name it. */
export async function about<T>(path: string, task: () => Promise<T>, hint?: string): Promise<T> {
  try {
    return await task();
  } catch (error) {
    if (error instanceof KernelRefusal || error instanceof LayerRefusal || error instanceof PackedRefusal)
      throw refusedFile(path, error.message, hint ?? 'See what can be imported: banger kernel import --help');
    if (errnoOf(error) === 'ENOENT')
      throw new BangerError('not_found', `There is no file "${path}"`, {
        hint: 'Give the path of a kernel, a package or its modules; see: banger kernel import --help',
        cause: error,
      });
    if (errnoOf(error) === 'EACCES') {
      throw new BangerError('invalid_argument', `"${path}" cannot be read`, {
        hint: `Make it readable with: sudo chmod a+r ${path}`,
        cause: error,
      });
    }
    throw error;
  }
}

interface MainSource {
  readonly image: Stretch;
  readonly config: string | undefined;
  readonly trees: KernelPackage['trees'] | undefined;
}

interface Unpacking {
  readonly scratch: string;
  readonly visit: (bytes: number) => void;
}

async function openMain(path: string, unpacking: Unpacking): Promise<MainSource> {
  if ((await pathKind(path)) === 'directory')
    throw new KernelRefusal(
      'is a directory; give a kernel or a package, and a directory of modules with --modules',
    );
  const kind = kindOf(await readHead(path));
  if (kind === 'elf' || kind === 'bzimage')
    return {
      image: { path, offset: 0, length: (await stat(path)).size },
      config: undefined,
      trees: undefined,
    };
  const { image, config, trees } = await openPackage(path, unpacking);
  if (image) return { image, config, trees };
  throw new KernelRefusal(
    'has no kernel in it ("boot/vmlinuz-…"); a package of modules is given with --modules',
  );
}

/** A Debian package or a tar; anything else is refused by what it looks like. */
async function openPackage(path: string, { scratch, visit }: Unpacking): Promise<KernelPackage> {
  const head = await readHead(path);
  const isDeb = kindOf(head) === 'deb';
  if (!isDeb && !(await beginsAsTar(path, head)))
    throw new KernelRefusal('is not a Linux kernel (vmlinux, bzImage), a Debian package or a tar of one');
  return readPackage({ path, isDeb }, scratch, visit);
}

async function beginsAsTar(path: string, head: Buffer): Promise<boolean> {
  const isTar = (bytes: Buffer): boolean => bytes.toString('latin1', 257, 262) === 'ustar';
  if (compressionOf(head) === undefined) return isTar(head);
  let unpacked = Buffer.alloc(0);
  const file = createReadStream(path);
  for await (const piece of unpack(file, Infinity)) {
    unpacked = Buffer.concat([unpacked, piece]);
    if (unpacked.length >= headBytes) break;
  }
  file.destroy();
  return isTar(unpacked);
}

async function pathKind(path: string): Promise<'directory' | 'file'> {
  const found = await stat(path);
  if (found.isDirectory()) return 'directory';
  if (found.isFile()) return 'file';
  throw new KernelRefusal('is neither a file nor a directory');
}

function pick(
  trees: KernelPackage['trees'],
  { version, path }: { readonly version: string; readonly path: string },
): ModuleTree | undefined {
  const tree = trees.get(version);
  if (tree || trees.size === 0) return tree;
  throw refusedFile(
    path,
    `has modules of Linux ${[...trees.keys()].join(', ')}, and the kernel is Linux ${version}`,
  );
}
