import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { statfs } from 'node:fs/promises';
import { dirname } from 'node:path';
import { abortError, BangerError } from '../../../errors.ts';
import type { Operation } from '../../operations.ts';
import { BlockFile } from '../ext4/block-file.ts';
import { DamagedFilesystem } from '../ext4-reader/damage.ts';
import { readFactsOfFile } from '../ext4-reader/rootfs-facts.ts';
import { storedBytes as sumOf } from '../ext4/stretches.ts';
import { Turns } from '../ext4/turns.ts';
import { noSpace } from '../image-staging.ts';
import { ConversionBudget, defaultLimits, type ConversionLimits } from '../layers/conversion-limits.ts';
import { LayerRefusal, shownName } from '../layers/layer-refusal.ts';
import { uncompressedInPlace } from '../layers/layer-stream.ts';
import type { RootfsFacts } from '../layers/rootfs-facts.ts';
import type { TarEntry } from '../layers/tar-entry.ts';
import { TarReader } from '../layers/tar-reader.ts';
import { guestPlatform } from '../registry/manifest.ts';
import {
  bundleMembers,
  maxManifestBytes,
  NotOfBundle,
  parseBundleManifest,
  sparseMap,
  type BundleManifest,
} from './bundle-format.ts';

/** What a bundle turned out to hold, all of it checked. */
export interface BundleContent {
  readonly manifest: BundleManifest;
  readonly facts: RootfsFacts;
}

export interface ReadBundleOptions {
  /** How the user calls the bundle, for errors */
  readonly shown: string;
  /** Where its filesystem goes; must not exist */
  readonly rootfs: string;
  readonly limits?: ConversionLimits;
}

/** What archivers put behind the end of a tar: zeros up to a record of theirs, and no more. */
const maxTrailingBytes = 1024 * 1024;

/**
 * Unpacks a bundle's filesystem to a path and checks it against its manifest. Nothing else is written, whatever names
 * its members have.
 */
export async function readBundle(
  path: string,
  { shown, rootfs, limits = defaultLimits }: ReadBundleOptions,
  operation: Operation,
): Promise<BundleContent> {
  const { signal } = operation;
  const budget = new ConversionBudget(limits);
  const reader = new TarReader(counted(path, budget, operation));
  try {
    const manifest = parseBundleManifest(await manifestBytes(reader));
    checkPlatform(manifest, shown);
    await unpackRootfs(await memberNamed(reader, bundleMembers.rootfs), {
      reader,
      manifest,
      rootfs,
      limits,
      signal,
    });
    const more = await reader.next();
    if (more) throw new LayerRefusal(`comes too much: a bundle has two members`);
    const before = budget.streamBytes;
    await reader.drain();
    if (budget.streamBytes - before > maxTrailingBytes)
      throw new LayerRefusal('has data behind the end of its tar');
    return { manifest, facts: await readFactsOfFile(rootfs) };
  } catch (error) {
    if (signal.aborted) throw abortError(signal);
    throw refusal(error, shown, reader.place);
  } finally {
    await reader.close();
  }
}

/** The unpacked bytes of the file, as far as the limits allow. */
async function* counted(
  path: string,
  budget: ConversionBudget,
  operation: Operation,
): AsyncGenerator<Buffer> {
  let compressedBytes = 0;
  async function* packed(): AsyncGenerator<Buffer> {
    for await (const chunk of createReadStream(path, {
      highWaterMark: 256 * 1024,
    }) as AsyncIterable<Buffer>) {
      compressedBytes += chunk.length;
      yield chunk;
    }
  }
  const turns = new Turns();
  for await (const chunk of uncompressedInPlace(packed())) {
    if (operation.signal.aborted) throw abortError(operation.signal);
    budget.addStreamBytes(chunk.length);
    budget.checkExpansion(budget.streamBytes, compressedBytes);
    operation.progress({ done: budget.streamBytes, unit: 'bytes' });
    yield chunk;
    await turns.share();
  }
}

async function memberNamed(reader: TarReader, name: string): Promise<TarEntry> {
  return checkMember(await reader.next(), name);
}

function checkMember(entry: TarEntry | undefined, name: string): TarEntry {
  if (!entry) throw new LayerRefusal(`ends before the member "${name}"`);
  if (entry.path !== name || entry.type !== 'file')
    throw new LayerRefusal(`is where a bundle has the file "${name}"`);
  return entry;
}

async function manifestBytes(reader: TarReader): Promise<Buffer> {
  const entry = await reader.next();
  if (entry && entry.path !== bundleMembers.manifest) throw new NotOfBundle('is its first entry');
  const { size } = checkMember(entry, bundleMembers.manifest);
  if (size > maxManifestBytes) throw new LayerRefusal(`has ${size} bytes, more than ${maxManifestBytes}`);
  const bytes = Buffer.alloc(size);
  await reader.body(async (offset, data) => void data.copy(bytes, offset));
  return bytes;
}

async function unpackRootfs(
  entry: TarEntry,
  into: {
    readonly reader: TarReader;
    readonly manifest: BundleManifest;
    readonly rootfs: string;
    readonly limits: ConversionLimits;
    readonly signal: AbortSignal;
  },
): Promise<void> {
  const { reader, manifest, rootfs, limits, signal } = into;
  const { sizeBytes, storedBytes, sha256 } = manifest.rootfs;
  if (entry.size > limits.fileBytes)
    throw new LayerRefusal(`has ${entry.size} bytes, more than a file can have`);
  const dataBytes = sumOf(entry.stretches);
  const hash = createHash('sha256');
  let mapBytes = 0;
  if (entry.size === sizeBytes) {
    for await (const piece of sparseMap(entry.size, entry.stretches)) {
      hash.update(piece);
      mapBytes += piece.length;
    }
  }
  if (entry.size !== sizeBytes || dataBytes + mapBytes !== storedBytes)
    throw new LayerRefusal(`has another size than the manifest says`);
  const { bavail, bsize } = await statfs(dirname(rootfs));
  if (dataBytes > limits.streamBytes)
    throw new LayerRefusal(`has more than ${limits.streamBytes} bytes of data`);
  // Half of it may be zeros that take no space.
  if (dataBytes > 2 * bavail * bsize) throw noSpace(dirname(rootfs), undefined);

  const turns = new Turns();
  const file = await BlockFile.create(rootfs);
  try {
    await reader.body(async (offset, data) => {
      if (signal.aborted) throw abortError(signal);
      hash.update(data);
      file.put(offset, data);
      await file.ready();
      // A chunk of the bundle may be a hundred thousand stretches.
      if (turns.isDue) await turns.share();
    });
    await file.resize(entry.size);
  } finally {
    await file.close();
  }
  const found = hash.digest('hex');
  if (found !== sha256)
    throw new LayerRefusal(`has the SHA-256 ${found}, not ${sha256} as the manifest says`);
}

function checkPlatform({ os, architecture }: BundleManifest, shown: string): void {
  const wanted = guestPlatform(process.arch);
  if (os === wanted.os && architecture === wanted.architecture) return;
  const found = shownName(`${os}/${architecture}`);
  throw new BangerError(
    'invalid_argument',
    `"${shown}" is made for ${found}, not for ${wanted.os}/${wanted.architecture}`,
    { hint: 'Write one on a host like this one, with: banger image bundle IMAGE -o FILE' },
  );
}

function refusal(error: unknown, shown: string, place: TarReader['place']): unknown {
  let why: string | undefined;
  if (error instanceof LayerRefusal) {
    const { at, after } = place;
    const where =
      at !== undefined
        ? `"${shownName(at)}" `
        : after !== undefined
          ? `what follows "${shownName(after)}" `
          : 'it ';
    why = `${where}${error.message}`;
  } else if (error instanceof DamagedFilesystem) {
    why = error.message.replace(/^The filesystem/, `its filesystem`);
  }
  if (why === undefined) return error;
  if (error instanceof NotOfBundle)
    return new BangerError('invalid_argument', `"${shown}" is a tar, but not a bundle: ${why}`, {
      hint: 'A root filesystem, or what docker save wrote, is taken with: banger image import FILE',
      cause: error,
    });
  return new BangerError('invalid_argument', `"${shown}" is no bundle that can be used: ${why}`, {
    hint: 'Fetch it again, or write it again with: banger image bundle IMAGE -o FILE',
    cause: error,
  });
}
