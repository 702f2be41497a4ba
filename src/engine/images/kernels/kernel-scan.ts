import type { FileHandle } from 'node:fs/promises';
import { gunzipSync } from 'node:zlib';
import { abortError } from '../../../errors.ts';
import { readAt } from './boot-image.ts';
import { wantedModules } from './wanted-modules.ts';

/** What texts inside an uncompressed kernel tell. */
export interface KernelTexts {
  readonly version: string | undefined;
  readonly config: string | undefined;
  readonly traces: ReadonlySet<string>;
}

/** Searched a few dozen times each, in a few milliseconds. */
const pieceBytes = 128 * 1024;
/** What a kernel has in it that finds virtio devices by words on its command line, without ACPI. */
export const deviceWordsTrace = 'virtio-mmio-cmdline';
/** Longer than any text that is looked for. */
const overlapBytes = 256;
/** What the kernel prints first. Where it is a format string, no digits follow. */
const banner = Buffer.from('Linux version ');
const bannerPattern = /^Linux version (\d+\.\d+[A-Za-z0-9._+~-]{0,100}) \(/;
/** The kernel's own configuration, between two marks and packed by gzip (CONFIG_IKCONFIG). */
const configStart = Buffer.from('IKCFG_ST\x1f\x8b', 'latin1');
const configEnd = Buffer.from('IKCFG_ED');
const maxPackedConfigBytes = 1024 * 1024;
const maxConfigBytes = 8 * 1024 * 1024;

/** Reads a kernel from its beginning to its end, once. */
export async function scanKernel(file: FileHandle, signal: AbortSignal): Promise<KernelTexts> {
  const wanted = new Set([deviceWordsTrace, ...wantedModules.flatMap(({ trace }) => trace ?? [])]);
  const traces = new Set<string>();
  let version: string | undefined;
  let config: string | undefined;
  for (let offset = 0; ; offset += pieceBytes - overlapBytes) {
    if (signal.aborted) throw abortError(signal);
    const piece = await readAt(file, offset, pieceBytes);
    version ??= findVersion(piece);
    for (const trace of wanted) {
      if (!traces.has(trace) && piece.includes(`${trace}\0`, 0, 'latin1')) traces.add(trace);
    }
    const at = config === undefined ? piece.indexOf(configStart) : -1;
    if (at >= 0) config = unpackConfig(await readAt(file, offset + at, maxPackedConfigBytes));
    if (piece.length < pieceBytes) return { version, config, traces };
  }
}

function findVersion(piece: Buffer): string | undefined {
  for (let at = piece.indexOf(banner); at >= 0; at = piece.indexOf(banner, at + 1)) {
    const match = bannerPattern.exec(piece.toString('latin1', at, at + overlapBytes));
    if (match) return match[1];
  }
  return undefined;
}

function unpackConfig(bytes: Buffer): string | undefined {
  const end = bytes.indexOf(configEnd);
  if (end < 0) return undefined;
  try {
    const packed = bytes.subarray(configStart.length - 2, end);
    return gunzipSync(packed, { maxOutputLength: maxConfigBytes }).toString('latin1');
  } catch {
    // Something that only looks like it: nothing is known of the configuration then.
    return undefined;
  }
}

/** Whether an option is set to `y` in a configuration. */
export function isSet(config: string | undefined, option: string): boolean {
  return config !== undefined && new RegExp(`^${option}=y$`, 'm').test(config);
}
