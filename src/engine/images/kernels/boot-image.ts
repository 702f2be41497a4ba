import { open, type FileHandle } from 'node:fs/promises';
import { BangerError } from '../../../errors.ts';
import { KernelRefusal } from './kernel-refusal.ts';

/** What a file is, by its first bytes. */
export type FileKind = 'elf' | 'bzimage' | 'deb' | 'other';

/** A compressed kernel inside a bzImage. */
export interface Payload {
  readonly offset: number;
  readonly length: number;
  /** Memory that the kernel needs to unpack itself: more than what the payload unpacks to */
  readonly initBytes: number;
}

/** Offsets and values of the boot protocol (https://docs.kernel.org/arch/x86/boot.html). */
const setup = {
  sectors: 0x1f1,
  bootFlag: 0x1fe,
  signature: 0x202,
  version: 0x206,
  payloadOffset: 0x248,
  payloadLength: 0x24c,
  initSize: 0x260,
  headerBytes: 0x268,
} as const;
const bootFlag = 0xaa55;
const sectorBytes = 512;
/** Images whose header says 0 have this many sectors, as the protocol began. */
const defaultSectors = 4;
/** The first version that says where the payload is, and the first with `initSize`. */
const payloadVersion = 0x0208;
const initSizeVersion = 0x020a;
/** Far above real ones, which have 5 to 60 MiB. */
const maxPayloadBytes = 512 * 1024 * 1024;
const maxUnpackedBytes = 1024 * 1024 * 1024;

/** Enough of a file to tell what it is. */
export const headBytes = 4096;

/** Tells what a file is by its first bytes, and refuses kernels that cannot be used here by name. */
export function kindOf(head: Buffer): FileKind {
  if (head.subarray(0, 4).equals(Buffer.from('\x7fELF', 'latin1'))) return 'elf';
  if (head.toString('latin1', 0, 8) === '!<arch>\n') return 'deb';
  if (head.toString('latin1', setup.signature, setup.signature + 4) === 'HdrS') return 'bzimage';
  if (head.toString('latin1', 56, 60) === 'ARM\x64')
    throw new KernelRefusal('is a kernel for arm64, and guests here are amd64');
  if (head.toString('latin1', 56, 60) === 'RSC\x05')
    throw new KernelRefusal('is a kernel for RISC-V, and guests here are amd64');
  return 'other';
}

/** Where the compressed kernel is in a bzImage. Nothing that the header says is trusted: all of it is in the file. */
export function findPayload(head: Buffer, fileBytes: number): Payload {
  if (head.length < setup.headerBytes || head.readUInt16LE(setup.bootFlag) !== bootFlag)
    throw new KernelRefusal('is not a complete bzImage: its header is cut off');
  const version = head.readUInt16LE(setup.version);
  if (version < payloadVersion)
    throw new KernelRefusal('is a bzImage of before Linux 2.6.24, which does not say where its kernel is');
  const sectors = head[setup.sectors]! || defaultSectors;
  const offset = (sectors + 1) * sectorBytes + head.readUInt32LE(setup.payloadOffset);
  const length = head.readUInt32LE(setup.payloadLength);
  if (length < 8) throw new KernelRefusal('is a bzImage without a compressed kernel in it');
  if (length > maxPayloadBytes || offset + length > fileBytes)
    throw new KernelRefusal(
      `is truncated or damaged: its kernel would end at byte ${offset + length} of ${fileBytes}`,
    );
  const initBytes = version >= initSizeVersion ? head.readUInt32LE(setup.initSize) : maxUnpackedBytes;
  return { offset, length, initBytes: Math.min(initBytes, maxUnpackedBytes) };
}

/** The first bytes of a file, or some from within it; fewer where it ends. */
export async function readHead(path: string, offset = 0, length = headBytes): Promise<Buffer> {
  const file = await open(path, 'r');
  try {
    return await readAt(file, offset, length);
  } finally {
    await file.close();
  }
}

/** Bytes of a file from an offset, fewer where it ends. */
export async function readAt(file: FileHandle, offset: number, length: number): Promise<Buffer> {
  const buffer = Buffer.alloc(length);
  let done = 0;
  while (done < length) {
    const { bytesRead } = await file.read(buffer, done, length - done, offset + done);
    if (bytesRead === 0) break;
    done += bytesRead;
  }
  return buffer.subarray(0, done);
}

/** Turns a refusal into an error for people, about the file that they named. */
export function refusedFile(path: string, reason: string, hint?: string): BangerError {
  return new BangerError('invalid_argument', `"${path}" ${reason}`, { hint });
}
