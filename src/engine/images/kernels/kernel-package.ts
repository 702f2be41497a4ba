import { createReadStream } from 'node:fs';
import { open, type FileHandle } from 'node:fs/promises';
import { parseEntryPath } from '../layers/entry-path.ts';
import { shownName } from '../layers/layer-refusal.ts';
import type { TarEntry } from '../layers/tar-entry.ts';
import { TarReader } from '../layers/tar-reader.ts';
import { arMember } from './ar-reader.ts';
import { unpack } from './unpack.ts';
import { KernelRefusal } from './kernel-refusal.ts';
import { moduleName } from './module-file.ts';
import {
  builtinList,
  isModuleName,
  maxListBytes,
  parseBuiltinList,
  type ModuleSource,
  type ModuleTree,
} from './module-tree.ts';

/** What a package has that a kernel is made of. Contents stay in one scratch file; names never reach the host. */
export interface KernelPackage {
  /** The boot image, at its place in the scratch file; undefined in a package that has modules only */
  readonly image: Stretch | undefined;
  /** The configuration it was built with, when the package has it */
  readonly config: string | undefined;
  /** By version of the kernel */
  readonly trees: ReadonlyMap<string, ModuleTree>;
}

/** A part of the scratch file. */
export interface Stretch {
  readonly path: string;
  readonly offset: number;
  readonly length: number;
}

const limits = {
  /** A distribution's largest kernel, with all its modules unpacked, has 1 GiB */
  unpackedBytes: 8 * 1024 ** 3,
  entries: 500_000,
  modules: 100_000,
  /** Of all lists and configurations that are read */
  textBytes: 4 * 1024 * 1024,
} as const;

/**
 * Reads a package once, from its beginning to its end: a Debian package, or a tar (packed or not) of the same
 * directories, `boot` and `lib/modules`. Everything else in it is passed over. `visit` hears how many bytes are unpacked,
 * often, and may throw.
 */
export async function readPackage(
  source: { readonly path: string; readonly isDeb: boolean },
  scratch: string,
  visit: (bytes: number) => void,
): Promise<KernelPackage> {
  const file = createReadStream(source.path, { highWaterMark: 256 * 1024 });
  const packed: AsyncIterable<Buffer> = source.isDeb ? arMember(file, 'data.tar') : file;
  const tar = new TarReader(visited(unpack(packed, limits.unpackedBytes), visit));
  const spool = new Spool(scratch, await open(scratch, 'wx', 0o600));
  const contents = new PackageContents(source.path, spool);
  try {
    let entries = 0;
    for (let entry = await tar.next(); entry; entry = await tar.next()) {
      if (++entries > limits.entries) throw new KernelRefusal(`has more than ${limits.entries} entries`);
      await contents.add(entry, tar);
    }
    return contents.finish();
  } finally {
    await tar.close();
    file.destroy();
    await spool.close();
  }
}

/** Says with every piece how many bytes there have been: a kernel alone takes seconds to unpack. */
async function* visited(
  pieces: AsyncIterable<Buffer>,
  visit: (bytes: number) => void,
): AsyncGenerator<Buffer> {
  let bytes = 0;
  for await (const piece of pieces) {
    bytes += piece.length;
    visit(bytes);
    yield piece;
  }
}

/** Collects, entry by entry, what a package has. */
class PackageContents {
  readonly #label: string;
  readonly #spool: Spool;
  #image: (Stretch & { readonly name: string }) | undefined;
  #config: string | undefined;
  readonly #modules = new Map<string, Map<string, ModuleSource>>();
  readonly #builtin = new Map<string, Set<string>>();
  #moduleCount = 0;
  #textBytes = 0;

  constructor(label: string, spool: Spool) {
    this.#label = label;
    this.#spool = spool;
  }

  async add(entry: TarEntry, tar: TarReader): Promise<void> {
    if (entry.type !== 'file') return;
    const names = parseEntryPath(entry.path);
    // With and without the merged /usr.
    if (names[0] === 'usr') names.shift();
    const name = names.at(-1) ?? '';
    if (names[0] === 'boot' && names.length === 2) {
      if (/^vmlinu[xz](?:-|$)/.test(name)) await this.#addImage(name, entry, tar);
      else if (/^config-/.test(name) && this.#config === undefined)
        this.#config = await this.#readText(entry, tar);
      return;
    }
    const version = names[2];
    if (names[0] !== 'lib' || names[1] !== 'modules' || version === undefined || names.length < 4) return;
    if (name === builtinList && names.length === 4)
      this.#builtin.set(version, parseBuiltinList(await this.#readText(entry, tar)));
    // Fedora and its relatives have the image beside the modules.
    else if (name === 'vmlinuz' && names.length === 4) await this.#addImage(name, entry, tar);
    else if (isModuleName(name)) await this.#addModule(version, entry, { name, tar });
  }

  finish(): KernelPackage {
    const versions = new Set([...this.#modules.keys(), ...this.#builtin.keys()]);
    const trees = [...versions].map((version): [string, ModuleTree] => [
      version,
      {
        label: this.#label,
        modules: this.#modules.get(version) ?? new Map(),
        builtin: this.#builtin.get(version),
      },
    ]);
    return { image: this.#image, config: this.#config, trees: new Map(trees) };
  }

  async #readText(entry: TarEntry, tar: TarReader): Promise<string> {
    this.#textBytes += entry.size;
    if (entry.size > maxListBytes || this.#textBytes > limits.textBytes)
      throw new KernelRefusal(
        `has lists of too many bytes in it: ${this.#textBytes}, with "${shownName(entry.path)}"`,
      );
    const pieces: Buffer[] = [];
    await tar.body(async (_, data) => void pieces.push(Buffer.from(data)));
    return Buffer.concat(pieces).toString('latin1');
  }

  async #addImage(name: string, entry: TarEntry, tar: TarReader): Promise<void> {
    if (this.#image)
      throw new KernelRefusal(
        `has two kernels in it, "${this.#image.name}" and "${name}": import one of them`,
      );
    this.#image = { name, ...(await this.#spool.add(entry, tar)) };
  }

  async #addModule(
    version: string,
    entry: TarEntry,
    { name, tar }: { name: string; tar: TarReader },
  ): Promise<void> {
    if (++this.#moduleCount > limits.modules)
      throw new KernelRefusal(`has more than ${limits.modules} modules`);
    const stretch = await this.#spool.add(entry, tar);
    const modules = this.#modules.get(version) ?? new Map<string, ModuleSource>();
    this.#modules.set(version, modules);
    modules.set(moduleName(name), { fileName: name, open: () => openStretch(stretch) });
  }
}

/** Bytes of a part of the scratch file. */
export function openStretch({ path, offset, length }: Stretch): AsyncIterable<Buffer> {
  if (length === 0) return (async function* () {})();
  return createReadStream(path, { start: offset, end: offset + length - 1 });
}

/** The scratch file: contents one after the other. */
class Spool {
  readonly #path: string;
  readonly #file: FileHandle;
  length = 0;

  constructor(path: string, file: FileHandle) {
    this.#path = path;
    this.#file = file;
  }

  async add(entry: TarEntry, tar: TarReader): Promise<Stretch> {
    if (entry.stretches.length > 1) throw new KernelRefusal('has sparse files in it, which no package has');
    const offset = this.length;
    await tar.body(async (at, data) => {
      for (let put = 0; put < data.length;) {
        const { bytesWritten } = await this.#file.write(data, put, data.length - put, offset + at + put);
        put += bytesWritten;
      }
    });
    this.length += entry.size;
    return { path: this.#path, offset, length: entry.size };
  }

  async close(): Promise<void> {
    await this.#file.close();
  }
}
