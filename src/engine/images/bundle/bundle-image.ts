import { createHash } from 'node:crypto';
import { pipeline, Readable } from 'node:stream';
import { constants, createZstdCompress } from 'node:zlib';
import { abortError, BangerError } from '../../../errors.ts';
import type * as z from 'zod/mini';
import type { Image } from '../../../state/images.ts';
import type { ImageContext } from '../../context.ts';
import type { Operation } from '../../operations.ts';
import type { bundleSummary } from '../../rpc/image-bundle-methods.ts';
import type { EngineStream } from '../../rpc/frame-stream.ts';
import { archive, bytesMember, type ArchiveMember } from '../export/archive-member.ts';
import { sendAll } from '../export/export-image.ts';
import { exportedName } from '../export/oci-layout.ts';
import { nameMeant } from '../find-image.ts';
import { holdPresentImage } from '../hold-image.ts';
import { familiarName } from '../reference.ts';
import { guestPlatform } from '../registry/manifest.ts';
import { rootfsFile } from '../rootfs-file.ts';
import { bundleKind, bundleMembers, sparseMap, type BundleManifest } from './bundle-format.ts';
import { findStretches, readStretches, type SparseFile } from './file-stretches.ts';

/** Sends an image as a bundle: its filesystem as it is, with what banger knows of it. Equal images give equal bytes. */
export async function bundleImage(
  context: ImageContext,
  reference: string,
  { operation, stream }: { readonly operation: Operation; readonly stream: EngineStream },
): Promise<z.output<typeof bundleSummary>> {
  using held = await holdPresentImage(context, reference, operation);
  const { image } = held;
  const rootfs = await rootfsFile(context, image);
  operation.enter('Reading filesystem');
  const sparse = await findStretches(rootfs, operation);
  const member = await rootfsMember(rootfs, sparse, operation);
  const named = exportedName(image, nameMeant(image, reference, context.config().catalog));
  const manifest = manifestOf(image, named, {
    sizeBytes: sparse.sizeBytes,
    storedBytes: member.sizeBytes,
    sha256: member.sha256,
  });

  operation.enter('Writing bundle');
  const packed = createHash('sha256');
  await sendAll(
    hashed(packed, compressed(archive([bytesMember(bundleMembers.manifest, manifest), member]))),
    {
      operation,
      stream,
    },
  );
  return { sha256: packed.digest('hex'), sizeBytes: sparse.sizeBytes };
}

async function rootfsMember(
  path: string,
  { sizeBytes, stretches }: SparseFile,
  operation: Operation,
): Promise<ArchiveMember & { readonly sha256: string }> {
  let storedBytes = stretches.reduce((sum, { length }) => sum + length, 0);
  for await (const piece of sparseMap(sizeBytes, stretches)) storedBytes += piece.length;
  async function* stored(): AsyncGenerator<Buffer> {
    yield* sparseMap(sizeBytes, stretches);
    yield* readStretches(path, stretches);
  }
  const hash = createHash('sha256');
  operation.enter('Hashing filesystem');
  let done = 0;
  for await (const chunk of hashed(hash, stored())) {
    if (operation.signal.aborted) throw abortError(operation.signal);
    done += chunk.length;
    operation.progress({ done, total: storedBytes, unit: 'bytes' });
  }
  const sha256 = hash.digest('hex');
  const { rootfs } = bundleMembers;
  return {
    path: `GNUSparseFile.0/${rootfs}`,
    sizeBytes: storedBytes,
    sha256,
    records: new Map(
      Object.entries({
        'GNU.sparse.major': '1',
        'GNU.sparse.minor': '0',
        'GNU.sparse.name': rootfs,
        'GNU.sparse.realsize': String(sizeBytes),
      }).map(([key, value]) => [key, Buffer.from(value)]),
    ),
    content: () => sameAsBefore(stored(), { path, sha256 }),
  };
}

async function* sameAsBefore(
  chunks: AsyncIterable<Buffer>,
  { path, sha256 }: { readonly path: string; readonly sha256: string },
): AsyncGenerator<Buffer> {
  const hash = createHash('sha256');
  yield* hashed(hash, chunks);
  if (hash.digest('hex') === sha256) return;
  throw new BangerError('invalid_state', `"${path}" changed while it was being bundled`, {
    hint: 'Bundle it again when nothing writes to it any more',
  });
}

function manifestOf(image: Image, name: string | undefined, rootfs: BundleManifest['rootfs']): string {
  const { env, workingDirectory, user, entrypoint, command } = image.config;
  const manifest = {
    schemaVersion: 1,
    kind: bundleKind,
    name: name === undefined ? undefined : familiarName(name),
    ...guestPlatform(process.arch),
    config: { env, workingDirectory, user, entrypoint, command },
    rootfs,
  };
  return `${JSON.stringify(manifest, undefined, 2)}\n`;
}

/** Packs in the thread pool. Whoever stops reading stops it. */
async function* compressed(chunks: AsyncIterable<Buffer>): AsyncGenerator<Buffer> {
  const encoder = createZstdCompress({ params: { [constants.ZSTD_c_checksumFlag]: 1 } });
  // Each chunk stays what it is: where one ends shows in what the encoder writes, and a stream of bytes would join some.
  // An error reaches the reader of the encoder; the callback is only there because it must be.
  pipeline(Readable.from(chunks), encoder, () => {});
  yield* encoder as AsyncIterable<Buffer>;
}

async function* hashed(
  hash: { update(chunk: Buffer): unknown },
  chunks: AsyncIterable<Buffer>,
): AsyncGenerator<Buffer> {
  for await (const chunk of chunks) {
    hash.update(chunk);
    yield chunk;
  }
}
