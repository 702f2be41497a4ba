import { open, type FileHandle } from 'node:fs/promises';
import { readAt } from './boot-image.ts';
import { KernelRefusal } from './kernel-refusal.ts';
import { scanKernel } from './kernel-scan.ts';

/** What is known of an uncompressed kernel. */
export interface KernelFacts {
  /** As `uname -r` will say */
  readonly version: string;
  /** It has the entry point by which QEMU boots an uncompressed kernel */
  readonly hasPvh: boolean;
  /** The configuration it was built with, when it carries it */
  readonly config: string | undefined;
  /** Texts of `wantedModules`, and `deviceWordsTrace`, that are in it: what is not there is not built in */
  readonly traces: ReadonlySet<string>;
}

/** Offsets and values of the ELF format, 64 bits (System V ABI, chapters 4 and 5). */
const elf = {
  headerBytes: 64,
  segmentBytes: 56,
  class64: 2,
  littleEndian: 1,
  executable: 2,
  shared: 3,
  load: 1,
  note: 4,
} as const;
const machines: Readonly<Record<number, string>> = { 3: 'i386', 40: 'arm', 183: 'arm64', 243: 'RISC-V' };
const amd64 = 62;
const maxSegments = 256;
const maxNoteBytes = 1024 * 1024;
/** The note that gives the address at which PVH starts the kernel (XEN_ELFNOTE_PHYS32_ENTRY). */
const pvhNote = { name: 'Xen', type: 18 } as const;

/** Checks that a file is a kernel for a PC of 64 bits, and finds out which. */
export async function readKernelElf(path: string, signal: AbortSignal): Promise<KernelFacts> {
  const file = await open(path, 'r');
  try {
    const { size } = await file.stat();
    const hasPvh = await hasPvhNote(file, size);
    const { version, ...found } = await scanKernel(file, signal);
    if (version === undefined)
      throw new KernelRefusal('is not a Linux kernel: it does not say "Linux version"');
    return { version, hasPvh, ...found };
  } finally {
    await file.close();
  }
}

async function hasPvhNote(file: FileHandle, fileBytes: number): Promise<boolean> {
  const header = await readAt(file, 0, elf.headerBytes);
  checkHeader(header);
  const offset = Number(header.readBigUInt64LE(32));
  const count = header.readUInt16LE(56);
  if (header.readUInt16LE(54) !== elf.segmentBytes || count === 0 || count > maxSegments)
    throw new KernelRefusal('has a damaged ELF header: its segments');
  if (offset + count * elf.segmentBytes > fileBytes) throw new KernelRefusal('is truncated');
  const table = await readAt(file, offset, count * elf.segmentBytes);
  let isLoadable = false;
  let hasPvh = false;
  for (let at = 0; at < table.length; at += elf.segmentBytes) {
    const type = table.readUInt32LE(at);
    const start = Number(table.readBigUInt64LE(at + 8));
    const length = Number(table.readBigUInt64LE(at + 32));
    if (type !== elf.load && type !== elf.note) continue;
    if (start + length > fileBytes) throw new KernelRefusal('is truncated');
    if (type === elf.load) isLoadable = true;
    else if (length <= maxNoteBytes) hasPvh ||= isPvhNoteIn(await readAt(file, start, length));
  }
  if (!isLoadable) throw new KernelRefusal('is an ELF file with nothing to load in it');
  return hasPvh;
}

function checkHeader(header: Buffer): void {
  if (header.length < elf.headerBytes) throw new KernelRefusal('is truncated');
  if (header.toString('latin1', 0, 4) !== '\x7fELF') throw new KernelRefusal('is not an ELF file');
  if (header[4] !== elf.class64 || header[5] !== elf.littleEndian)
    throw new KernelRefusal('is not a kernel of 64 bits');
  const machine = header.readUInt16LE(18);
  if (machine !== amd64) {
    const name = machines[machine] ?? `processor type ${machine}`;
    throw new KernelRefusal(`is a kernel for ${name}, and guests here are amd64`);
  }
  const type = header.readUInt16LE(16);
  if (type !== elf.executable && type !== elf.shared)
    throw new KernelRefusal('is not a kernel: it is an object file, such as a module');
}

function isPvhNoteIn(notes: Buffer): boolean {
  const rounded = (length: number): number => Math.ceil(length / 4) * 4;
  for (let at = 0; at + 12 <= notes.length;) {
    const nameLength = notes.readUInt32LE(at);
    const valueLength = notes.readUInt32LE(at + 4);
    const name = notes.toString('latin1', at + 12, at + 12 + Math.max(0, nameLength - 1));
    if (name === pvhNote.name && notes.readUInt32LE(at + 8) === pvhNote.type) return true;
    at += 12 + rounded(nameLength) + rounded(valueLength);
  }
  return false;
}
