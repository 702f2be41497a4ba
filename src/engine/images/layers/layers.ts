import { createHash, type Hash } from 'node:crypto';
import { mkdir, rename, rm } from 'node:fs/promises';
import { abortError, BangerError } from '../../../errors.ts';
import { applyEntry, type ImageUnderConstruction } from './apply-entry.ts';
import { ConversionBudget, type ConversionLimits, defaultLimits } from './conversion-limits.ts';
import { BlockAllocator } from '../ext4/block-allocator.ts';
import { BlockFile } from '../ext4/block-file.ts';
import { writeFilesystem } from '../ext4/filesystem.ts';
import { blockSize } from '../ext4/format.ts';
import { Turns } from '../ext4/turns.ts';
import { HostRoom } from './host-room.ts';
import { LayerRefusal, shownName } from './layer-refusal.ts';
import { uncompressedInPlace } from './layer-stream.ts';
import { partialPath } from './partial-path.ts';
import { readRootfsFacts, type RootfsFacts } from './rootfs-facts.ts';
import { RootfsTree } from './rootfs-tree.ts';
import { TarReader } from './tar-reader.ts';

export interface LayerSource {
  /** Opens the compressed or plain layer from its start. A chunk is valid until the next one is asked for. */
  readonly open: () => AsyncIterable<Buffer>;
  /** The same for another thread, which reads the file by itself; absent for what lies in none */
  readonly openFile?: () => Promise<LayerFile>;
  /** `sha256:…` of the uncompressed tar, checked when given */
  readonly diffId?: string;
  /** Shown in errors, such as a short digest */
  readonly label: string;
}

/** A layer in an open file, which may still be growing. */
export interface LayerFile {
  readonly fd: number;
  /** Where in the file it begins, if not with it */
  readonly start?: number;
  /**
   * Waits until the file has more of it than up to `position`, and says up to where by now; that when it is all.
   * Throws when the rest does not come, or what was there so far was not the layer.
   */
  reach(position: number): Promise<number>;
  close(): Promise<void>;
}

export interface ConvertOptions {
  /** Oldest first */
  readonly layers: readonly LayerSource[];
  /** A new file; removed on failure */
  readonly destination: string;
  /** Directory on the same filesystem for the image while it grows, left without it afterwards */
  readonly workDirectory: string;
  /** Size of the filesystem; it becomes larger when the contents need more */
  readonly sizeBytes: number;
  /** Bytes in, same bytes out: uuid and hash seed derive from it (such as the manifest digest) */
  readonly seed: string;
  /** Volume label, cut to 16 bytes */
  readonly label?: string;
  readonly signal: AbortSignal;
  /** `layer` counts from 0; `bytes` are uncompressed ones of all layers so far */
  readonly onProgress?: (done: { layer: number; entries: number; bytes: number }) => void;
  readonly limits?: Partial<ConversionLimits>;
}

export interface ConvertResult extends RootfsFacts {
  /** Size of the filesystem and of the file, which is sparse */
  readonly sizeBytes: number;
  /** What contents and directories occupy */
  readonly contentBytes: number;
  /** Names in the image */
  readonly entries: number;
  /** `sha256:…` of each uncompressed layer */
  readonly diffIds: readonly string[];
}

/**
 * Applies layers oldest first and writes them as one ext4 filesystem to
 * `destination`. Contents go straight from the stream to their blocks; only
 * metadata is held in memory.
 *
 * The file appears complete or not at all. It is not synced: who publishes the
 * image does that.
 */
export async function convertLayers(options: ConvertOptions): Promise<ConvertResult> {
  const partial = partialPath(options);
  await mkdir(options.workDirectory, { recursive: true });
  // Left by an engine that died here.
  await rm(partial, { force: true });
  try {
    const result = await writeImage(options, partial);
    await rename(partial, options.destination);
    return result;
  } catch (error) {
    await rm(partial, { force: true });
    throw error;
  }
}

async function writeImage(options: ConvertOptions, partial: string): Promise<ConvertResult> {
  const file = await BlockFile.create(partial, { isBlocking: true });
  try {
    const budget = new ConversionBudget({ ...defaultLimits, ...options.limits });
    const image = newImage(file, budget, new HostRoom(options.workDirectory));
    const diffIds: string[] = [];
    for (const [index, layer] of options.layers.entries()) {
      diffIds.push(await applyLayer(image, layer, { index, budget, options }));
    }
    const facts = await readRootfsFacts(image.tree.files, file);
    file.writeBack();
    const { size: entries } = image.tree;
    await image.room.foresee(image.tree.files.pendingBytes);
    const written = await writeFilesystem(file, image.allocator, image.tree.files, {
      sizeBytes: options.sizeBytes,
      seed: options.seed,
      label: options.label ?? '',
      signal: options.signal,
      reach: (bytes) => image.room.reach(bytes),
    });
    return { ...written, entries, diffIds, ...facts };
  } finally {
    await file.close();
  }
}

function newImage(file: BlockFile, budget: ConversionBudget, room: HostRoom): ImageUnderConstruction {
  const allocator = new BlockAllocator();
  const tree = new RootfsTree({ limits: budget.limits, allocator });
  return { file, allocator, tree, room };
}

interface LayerContext {
  readonly index: number;
  readonly budget: ConversionBudget;
  readonly options: ConvertOptions;
}

/** Applies one layer and returns its diff id. */
async function applyLayer(
  image: ImageUnderConstruction,
  layer: LayerSource,
  context: LayerContext,
): Promise<string> {
  const hash = createHash('sha256');
  const reader = new TarReader(metered(layer.open(), hash, context));
  const { budget } = context;
  const turns = new Turns();
  try {
    for (;;) {
      const entry = await reader.next();
      if (!entry) break;
      budget.addEntry(entry.size);
      await applyEntry(image, entry, reader);
      budget.checkSpread(image.allocator.end * blockSize + image.tree.files.pendingBytes);
      if (turns.isDue) await turns.share();
    }
    image.tree.endLayer();
    await reader.drain();
  } catch (error) {
    if (error instanceof LayerRefusal) throw refused(layer, reader.place, error);
    throw error;
  } finally {
    await reader.close();
  }
  image.allocator.reclaim();
  reportProgress(context);
  const diffId = `sha256:${hash.digest('hex')}`;
  if (layer.diffId !== undefined && layer.diffId !== diffId) {
    throw new BangerError(
      'invalid_argument',
      `Layer "${layer.label}" has the diff id ${diffId}, not ${layer.diffId}`,
    );
  }
  return diffId;
}

/** Unpacks a layer, hashing and counting its bytes as they pass, and stops when the operation is cancelled. */
async function* metered(
  source: AsyncIterable<Buffer>,
  hash: Hash,
  context: LayerContext,
): AsyncGenerator<Buffer> {
  const { budget, options } = context;
  let compressed = 0;
  let bytes = 0;
  const counted = counting(source, (count) => (compressed += count));
  const turns = new Turns();
  for await (const chunk of uncompressedInPlace(counted)) {
    if (options.signal.aborted) throw abortError(options.signal);
    hash.update(chunk);
    bytes += chunk.length;
    budget.addStreamBytes(chunk.length);
    budget.checkExpansion(bytes, compressed);
    reportProgress(context);
    yield chunk;
    await turns.share();
  }
  budget.endLayer(bytes, compressed);
}

async function* counting(
  source: AsyncIterable<Buffer>,
  count: (bytes: number) => void,
): AsyncGenerator<Buffer> {
  for await (const chunk of source) {
    count(chunk.length);
    yield chunk;
  }
}

function reportProgress({ index, budget, options }: LayerContext): void {
  options.onProgress?.({ layer: index, entries: budget.entries, bytes: budget.streamBytes });
}

function refused(layer: LayerSource, place: TarReader['place'], cause: LayerRefusal): BangerError {
  const name = `ayer "${layer.label}"`;
  const where =
    place.at !== undefined
      ? `Entry "${shownName(place.at)}" of l${name}`
      : place.after !== undefined
        ? `L${name}, after entry "${shownName(place.after)}",`
        : `L${name}`;
  return new BangerError('invalid_argument', `${where} ${cause.message}`, { cause });
}
