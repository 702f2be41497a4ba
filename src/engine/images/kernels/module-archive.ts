import { cpioArchive } from '../../../host/cpio.ts';
import { KernelRefusal } from './kernel-refusal.ts';
import { moduleName, readModuleFacts, withoutSignature } from './module-file.ts';
import { readModule, type ModuleSource, type ModuleTree } from './module-tree.ts';
import { loadTimes, wantedModules, type LoadTime, type WantedModule } from './wanted-modules.ts';

/** The modules that guests load, as the part of the initramfs that `guest/init` reads. */
export interface ModuleArchive {
  readonly archive: Buffer;
  /** Names in the order of loading */
  readonly modules: readonly string[];
  /** What guests of this kernel cannot do */
  readonly warnings: readonly string[];
}

export interface ModuleRequest {
  readonly version: string;
  /** Undefined for a kernel that is said to have everything built in */
  readonly tree: ModuleTree | undefined;
  /** Tells whether something is built in, for kernels without a list of it */
  readonly isBuiltin: (wanted: WantedModule) => boolean;
  /** The kernel takes no module without a signature */
  readonly keepSignatures: boolean;
  readonly limits?: ModuleLimits;
}

/** For the modules that guests load, with all that they need: they are in memory, and in that of each guest. */
interface ModuleLimits {
  /** Unpacked */
  readonly bytes: number;
  readonly modules: number;
}

/** Those of a distribution are some twenty, of 10 MiB; with all their debugging information some more. */
const defaultLimits: ModuleLimits = { bytes: 64 * 1024 * 1024, modules: 200 };

const directory = '/run/banger/modules';
/** Machines have one of these two, so what only the other has loaded is not there. */
const busTimes: readonly LoadTime[] = ['pci', 'mmio'];

/** Chooses what guests need of a kernel's modules, and refuses a kernel that no guest would boot with. */
export async function makeModuleArchive(request: ModuleRequest): Promise<ModuleArchive> {
  const chosen = new ChosenModules(request);
  const missing: string[] = [];
  const warnings: string[] = [];
  for (const wanted of wantedModules) {
    if (await chosen.add(wanted.name, wanted.when)) continue;
    if (request.tree?.builtin?.has(wanted.name) ?? request.isBuiltin(wanted)) continue;
    if (wanted.isRequired) missing.push(wanted.name);
    else if (wanted.without) warnings.push(`without ${wanted.name}, guests cannot ${wanted.without}`);
  }
  if (missing.length > 0) throw new KernelRefusal(missingText(missing, request));

  const order = loadTimes
    .map((when) => [when, ...chosen.filesAt(when)])
    .filter((words) => words.length > 1)
    .map((words) => `${words.join(' ')}\n`);
  const files = [...chosen.files].map(([name, content]) => ({
    path: `${directory}/${name}`,
    content,
    mode: 0o644,
  }));
  files.sort((left, right) => (left.path < right.path ? -1 : 1));
  const list = { path: `${directory}/order`, content: order.join(''), mode: 0o644 };
  return {
    archive: cpioArchive([...files, list]),
    modules: [...new Set(loadTimes.flatMap((when) => chosen.filesAt(when)))].map(moduleName),
    warnings,
  };
}

function missingText(missing: readonly string[], { tree, version }: ModuleRequest): string {
  const names = missing.join(', ');
  if (!tree) return `has no ${names} built in, and a guest does not boot without`;
  return `is Linux ${version}, for which "${tree.label}" has no ${names}, and a guest does not boot without`;
}

interface ReadModule {
  /** Name in the archive */
  readonly file: string;
  readonly needs: readonly string[];
  readonly softNeeds: readonly string[];
}

/** Modules with what they depend on, each before what depends on it, at the time when it is first needed. */
class ChosenModules {
  readonly files = new Map<string, Buffer>();
  readonly #request: ModuleRequest;
  readonly #times = new Map<LoadTime, string[]>();
  readonly #read = new Map<string, ReadModule>();
  #bytes = 0;

  constructor(request: ModuleRequest) {
    this.#request = request;
  }

  filesAt(when: LoadTime): readonly string[] {
    return this.#times.get(when) ?? [];
  }

  /** False when there is no such module; what it needs may be built in. */
  async add(name: string, when: LoadTime, path: readonly string[] = []): Promise<boolean> {
    const module = await this.#readOnce(name);
    if (!module) return false;
    if (path.includes(name))
      throw new KernelRefusal(`has modules that need each other: ${[...path, name].join(', ')}`);
    if (this.#isLoadedBy(module.file, when)) return true;
    for (const needed of module.softNeeds) await this.add(needed, when, [...path, name]);
    for (const needed of module.needs) {
      const isThere = (await this.add(needed, when, [...path, name])) || this.#isBuiltin(needed);
      if (!isThere) throw new KernelRefusal(`has the module ${name}, but not ${needed}, which it needs`);
    }
    this.#times.set(when, [...this.filesAt(when), module.file]);
    return true;
  }

  /** Where there is no list, it is taken to be. */
  #isBuiltin(name: string): boolean {
    return this.#request.tree?.builtin?.has(name) ?? true;
  }

  #isLoadedBy(file: string, when: LoadTime): boolean {
    return loadTimes
      .slice(0, loadTimes.indexOf(when) + 1)
      .filter((time) => time === when || !busTimes.includes(time))
      .some((time) => this.filesAt(time).includes(file));
  }

  async #readOnce(name: string): Promise<ReadModule | undefined> {
    const known = this.#read.get(name);
    if (known) return known;
    const source = this.#request.tree?.modules.get(name);
    if (!source) return undefined;
    const content = await this.#readWithin(source);
    const facts = readModuleFacts(content);
    const { version, keepSignatures } = this.#request;
    if (facts.kernelVersion !== undefined && facts.kernelVersion !== version)
      throw new KernelRefusal(
        `is Linux ${version}, and the module ${name} is for Linux ${facts.kernelVersion}`,
      );
    const file = `${name}.ko`;
    this.files.set(file, keepSignatures ? content : withoutSignature(content));
    const read = {
      file,
      needs: facts.depends.map(moduleName),
      softNeeds: facts.softDepends.map(moduleName),
    };
    this.#read.set(name, read);
    return read;
  }

  async #readWithin(source: ModuleSource): Promise<Buffer> {
    const { bytes, modules } = this.#request.limits ?? defaultLimits;
    if (this.#read.size === modules)
      throw new KernelRefusal(`has more than ${modules} modules that its guests would load`);
    const content = await readModule(source, bytes);
    this.#bytes += content.length;
    if (this.#bytes > bytes)
      throw new KernelRefusal(`has modules of more than ${bytes} bytes that its guests would load`);
    return content;
  }
}
