import { createHash } from 'node:crypto';
import { createWriteStream } from 'node:fs';
import { mkdir, stat, writeFile } from 'node:fs/promises';
import { pipeline } from 'node:stream/promises';
import { abortError } from '../../../errors.ts';
import type { Kernel } from '../../../state/kernels.ts';
import { kernelPaths, type KernelPaths } from '../../../state/layout.ts';
import type { ImageContext } from '../../context.ts';
import type { Operation } from '../../operations.ts';
import { admitOptimizer } from '../../optimizer.ts';
import { withStaging } from '../image-staging.ts';
import { findPayload, kindOf, readHead, type Payload } from './boot-image.ts';
import { compressionOf, unpack } from './unpack.ts';
import { readKernelElf, type KernelFacts } from './kernel-elf.ts';
import { parseKernelName } from './kernel-name.ts';
import { openStretch, type Stretch } from './kernel-package.ts';
import { KernelRefusal } from './kernel-refusal.ts';
import { deviceWordsTrace, isSet } from './kernel-scan.ts';
import { about, openKernelSource, type SourcePaths } from './kernel-source.ts';
import { makeModuleArchive, type ModuleArchive } from './module-archive.ts';
import type { ModuleTree } from './module-tree.ts';
import { publishKernel } from './publish-kernel.ts';

export interface KernelImport extends SourcePaths {
  /** Absent: the version */
  readonly name: string | undefined;
  readonly source: Kernel['source'];
  /** Where it came from, for people */
  readonly origin: string;
}

const maxVmlinuxBytes = 2 * 1024 ** 3;

/**
 * Makes a kernel of a file on the host, with the modules that its guests load. It is checked before it is published:
 * that it is a kernel for these guests, that its modules are its own, and that nothing is missing that a boot needs.
 */
export async function importKernel(
  context: ImageContext,
  request: KernelImport,
  operation: Operation,
): Promise<Kernel> {
  const { path } = request;
  if (request.name !== undefined) parseKernelName(request.name);
  // Kernels are unpacked and searched byte by byte, and all have megabytes.
  admitOptimizer();
  return withStaging(context.layout, async (staging) => {
    operation.enter('Reading kernel');
    const source = await openKernelSource(request, staging, (bytes) => {
      if (operation.signal.aborted) throw abortError(operation.signal);
      operation.progress({ done: bytes, unit: 'bytes' });
    });
    const paths = kernelPaths(context.layout, 'kernel', staging);
    await mkdir(paths.directory, { mode: 0o700 });
    const image = await about(path, () => writeImage(source.image, { paths, signal: operation.signal }));

    operation.enter('Choosing modules');
    const tree = await source.modulesOf(image.version);
    const config = source.config ?? image.config;
    const chosen = await about(path, () => chooseModules(image, { tree, config }), hintFor(tree, path));
    await writeFile(paths.modules, chosen.archive, { mode: 0o600, flag: 'wx' });

    operation.enter('Publishing kernel');
    const kernel = {
      id: kernelId(image, chosen),
      version: image.version,
      source: request.source,
      origin: request.origin,
      format: image.hasPvh ? ('elf' as const) : ('bzimage' as const),
      imageBytes: (await stat(paths.vmlinux)).size,
      modulesBytes: chosen.archive.length,
      modules: chosen.modules,
      warnings: chosen.warnings,
      readsDeviceWords: readsDeviceWords(image, config),
    };
    return publishKernel(
      context,
      { paths, kernel, name: request.name ?? parseKernelName(image.version) },
      operation.signal,
    );
  });
}

interface WrittenImage extends KernelFacts {
  /** Hex SHA-256 of the uncompressed kernel, and of what boots instead, if anything does */
  readonly hashes: readonly string[];
}

/** Writes the uncompressed kernel, and the compressed one beside it where only that boots. */
async function writeImage(
  image: Stretch,
  { paths, signal }: { readonly paths: KernelPaths; readonly signal: AbortSignal },
): Promise<WrittenImage> {
  const head = await readHead(image.path, image.offset);
  const kind = kindOf(head);
  if (kind !== 'elf' && kind !== 'bzimage')
    throw new KernelRefusal('is not a Linux kernel (vmlinux or bzImage)');
  const content =
    kind === 'elf'
      ? limited(openStretch(image), maxVmlinuxBytes)
      : unpackedPayload(image, findPayload(head, image.length));
  const hash = await writeHashed(content, paths.vmlinux, signal);
  const facts = await readKernelElf(paths.vmlinux, signal);
  if (facts.hasPvh) return { ...facts, hashes: [hash] };
  if (kind === 'elf')
    throw new KernelRefusal(
      'has no entry point for virtual machines (CONFIG_PVH); import the bzImage of the same kernel, which boots without',
    );
  return { ...facts, hashes: [hash, await writeHashed(openStretch(image), paths.bzImage, signal)] };
}

/** The kernel inside a bzImage. Behind it is its unpacked size, which is a part of the format for gzip only. */
async function* unpackedPayload(image: Stretch, payload: Payload): AsyncGenerator<Buffer> {
  const offset = image.offset + payload.offset;
  const sizeBytes = 4;
  const tail = await readHead(image.path, offset + payload.length - sizeBytes, sizeBytes);
  const expected = tail.readUInt32LE();
  const compression = compressionOf(await readHead(image.path, offset, sizeBytes * 2));
  if (compression === undefined)
    throw new KernelRefusal('is a bzImage whose kernel is compressed in an unknown way');
  if (expected > payload.initBytes)
    throw new KernelRefusal(
      `is damaged: its kernel has ${expected} bytes, and it asks for ${payload.initBytes} to boot`,
    );
  const length = compression === 'gzip' ? payload.length : payload.length - sizeBytes;
  let written = 0;
  for await (const piece of unpack(openStretch({ path: image.path, offset, length }), expected)) {
    written += piece.length;
    yield piece;
  }
  if (written !== expected)
    throw new KernelRefusal(`is damaged: its kernel unpacks to ${written} bytes instead of ${expected}`);
}

async function* limited(content: AsyncIterable<Buffer>, maxBytes: number): AsyncGenerator<Buffer> {
  let total = 0;
  for await (const piece of content) {
    total += piece.length;
    if (total > maxBytes) throw new KernelRefusal(`has more than ${maxBytes} bytes`);
    yield piece;
  }
}

async function writeHashed(
  content: AsyncIterable<Buffer>,
  path: string,
  signal: AbortSignal,
): Promise<string> {
  const hash = createHash('sha256');
  async function* hashed(): AsyncGenerator<Buffer> {
    for await (const piece of content) {
      hash.update(piece);
      yield piece;
    }
  }
  try {
    await pipeline(hashed, createWriteStream(path, { mode: 0o600, flags: 'wx' }), { signal });
  } catch (error) {
    throw signal.aborted ? abortError(signal) : error;
  }
  return hash.digest('hex');
}

async function chooseModules(
  image: WrittenImage,
  { tree, config }: { readonly tree: ModuleTree | undefined; readonly config: string | undefined },
): Promise<ModuleArchive> {
  return makeModuleArchive({
    version: image.version,
    tree,
    isBuiltin: ({ option, trace }) =>
      config === undefined ? trace === undefined || image.traces.has(trace) : isSet(config, option),
    keepSignatures: isSet(config, 'CONFIG_MODULE_SIG_FORCE'),
  });
}

/** A module that could would not be told of them: kernels tell what is built in. */
function readsDeviceWords({ traces }: WrittenImage, config: string | undefined): boolean {
  if (config === undefined) return traces.has(deviceWordsTrace);
  return ['CONFIG_VIRTIO_MMIO', 'CONFIG_VIRTIO_MMIO_CMDLINE_DEVICES'].every((option) =>
    isSet(config, option),
  );
}

function hintFor(tree: ModuleTree | undefined, path: string): string {
  return tree
    ? "Import a kernel with virtio and ext4, such as Debian's linux-image-cloud-amd64"
    : `Give its modules too: banger kernel import ${path} --modules DIR (or the package that has them)`;
}

/** Names the content: two imports of the same kernel and modules are one. */
function kernelId(image: WrittenImage, modules: ModuleArchive): string {
  const parts = [...image.hashes, createHash('sha256').update(modules.archive).digest('hex')];
  return createHash('sha256').update(parts.join('\n')).digest('hex');
}
