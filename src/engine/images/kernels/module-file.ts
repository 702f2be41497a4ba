import { KernelRefusal } from './kernel-refusal.ts';

/** What a module says about itself. */
export interface ModuleFacts {
  /** Names of modules it needs, written as in its file name or with underscores */
  readonly depends: readonly string[];
  /** Names that should be loaded before it if they are there */
  readonly softDepends: readonly string[];
  /** Version of the kernel it was built for */
  readonly kernelVersion: string | undefined;
}

const sectionBytes = 64;
const maxSections = 65_535;
/** What modules say about themselves: the most, of graphics drivers that name all their firmware, is some 50 KiB */
const maxInfoBytes = 1024 * 1024;

/** File names and dependencies differ in hyphens and underscores; the kernel knows underscores only. */
export function moduleName(fileName: string): string {
  return fileName.replace(/\.ko(?:\.(?:xz|zst|gz))?$/, '').replaceAll('-', '_');
}

/** Reads the `.modinfo` section of a module (an ELF object of 64 bits, of whatever architecture). */
export function readModuleFacts(module: Buffer): ModuleFacts {
  const values = (key: string): string[] =>
    entries.filter((entry) => entry.startsWith(`${key}=`)).map((entry) => entry.slice(key.length + 1));
  const info = findSection(module, '.modinfo');
  if (info && info.length > maxInfoBytes)
    throw new KernelRefusal(`has a module that says ${info.length} bytes about itself`);
  const entries = info?.toString('latin1').split('\0') ?? [];
  return {
    depends: values('depends').flatMap((list) => list.split(',').filter((name) => name !== '')),
    softDepends: values('softdep').flatMap(namesBefore),
    kernelVersion: values('vermagic')[0]?.split(' ')[0],
  };
}

/** `pre: a b post: c` means a and b. */
function namesBefore(softdep: string): string[] {
  const names: string[] = [];
  let isBefore = false;
  for (const word of softdep.split(/\s+/)) {
    if (word.endsWith(':')) isBefore = word === 'pre:';
    else if (isBefore && word !== '') names.push(word);
  }
  return names;
}

/** The content of a section; undefined when there is none of that name. */
function findSection(module: Buffer, wanted: string): Buffer | undefined {
  if (
    module.length < 64 ||
    module.toString('latin1', 0, 4) !== '\x7fELF' ||
    module[4] !== 2 ||
    module[5] !== 1
  )
    throw new KernelRefusal('is not a kernel module');
  const tableOffset = Number(module.readBigUInt64LE(40));
  const count = module.readUInt16LE(60);
  const namesIndex = module.readUInt16LE(62);
  const isSane = module.readUInt16LE(58) === sectionBytes && count <= maxSections && namesIndex < count;
  if (!isSane || tableOffset + count * sectionBytes > module.length)
    throw new KernelRefusal('is a damaged kernel module');
  const content = (index: number): Buffer => {
    const at = tableOffset + index * sectionBytes;
    const start = Number(module.readBigUInt64LE(at + 24));
    const length = Number(module.readBigUInt64LE(at + 32));
    if (start + length > module.length) throw new KernelRefusal('is a damaged kernel module');
    return module.subarray(start, start + length);
  };
  const names = content(namesIndex);
  for (let index = 0; index < count; index++) {
    const from = module.readUInt32LE(tableOffset + index * sectionBytes);
    if (names.toString('latin1', from, from + wanted.length + 1) === `${wanted}\0`) return content(index);
  }
  return undefined;
}

const signatureMagic = Buffer.from('~Module signature appended~\n');
const signatureInfoBytes = 12;

/**
 * A module without its signature. Checking signatures costs an emulated boot a sixth of a second and tells nothing
 * here: who can change the modules can change the kernel beside them. The format is the signature, 12 bytes about it
 * that end in its length (32 bits, big-endian), and a line.
 */
export function withoutSignature(module: Buffer): Buffer {
  const end = module.length - signatureMagic.length;
  if (end < signatureInfoBytes || !module.subarray(end).equals(signatureMagic)) return module;
  const length = module.readUInt32BE(end - 4);
  const content = end - signatureInfoBytes - length;
  return content > 0 ? module.subarray(0, content) : module;
}
