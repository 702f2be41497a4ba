import { Readable } from 'node:stream';
import * as z from 'zod/mini';
import { BangerError } from '../../errors.ts';
import type { ImageConfig } from '../../state/images.ts';
import type { ArchiveFiles } from './archive-files.ts';
import type { LayerSource } from './layers/layers.ts';
import { guestPlatform, maxDocumentBytes, parseOciConfig, refused } from './registry/manifest.ts';
import { digestOf, hexOf, resolveImage, type ImageDocuments } from './registry/resolve-image.ts';

/** An image inside an archive, ready to be converted. */
export interface ArchivedImage {
  readonly id: string;
  readonly config: ImageConfig;
  readonly layers: readonly LayerSource[];
  readonly layerDigests: readonly string[];
  readonly documents: ImageDocuments;
}

const dockerManifest = z.array(
  z.object({
    Config: z.string(),
    RepoTags: z.optional(z.nullable(z.array(z.string()))),
    Layers: z.array(z.string()).check(z.minLength(1), z.maxLength(500)),
  }),
);

/** True for names that `docker save`, skopeo, buildkit and others put into an archive of an image. */
export function isArchiveName(name: string): boolean {
  return /^(?:manifest\.json|repositories|oci-layout|index\.json|blobs(?:\/.*)?|(?:sha256:)?[0-9a-f]{64}(?:\.json|\.tar|\.tar\.gz|\/.*)?)$/.test(
    name,
  );
}

/** Opens the image that an archive holds, or returns undefined when it holds none. */
export async function openArchive(files: ArchiveFiles, path: string): Promise<ArchivedImage | undefined> {
  if (await files.has('manifest.json')) return openDockerArchive(files, path);
  if (await files.has('oci-layout')) return openOciLayout(files, path);
  return undefined;
}

async function openDockerArchive(files: ArchiveFiles, path: string): Promise<ArchivedImage> {
  const entries = parseDockerManifest(await files.read('manifest.json', maxDocumentBytes), path);
  const [entry] = entries;
  if (!entry || entries.some((other) => other.Config !== entry.Config)) {
    const names = entries.map((other) => other.RepoTags?.[0] ?? 'unnamed').join(', ');
    throw new BangerError(
      'invalid_argument',
      `"${path}" holds ${entries.length} images: ${names}`.slice(0, 500),
      {
        hint: 'Save the one you want on its own: docker save IMAGE -o FILE',
      },
    );
  }
  const bytes = await files.read(entry.Config, maxDocumentBytes);
  const { config, diffIds } = parseOciConfig(bytes, guestPlatform(process.arch), path);
  if (diffIds.length !== entry.Layers.length) {
    throw refused(path, `its config names ${diffIds.length} layers and its manifest ${entry.Layers.length}`);
  }
  const layers = entry.Layers.map((name, index) => layerOf(files, { name, diffId: diffIds[index]!, index }));
  return {
    id: hexOf(digestOf(bytes)),
    config,
    layers,
    layerDigests: diffIds,
    documents: { config: bytes },
  };
}

async function openOciLayout(files: ArchiveFiles, path: string): Promise<ArchivedImage> {
  const resolved = await resolveImage({
    top: await files.read('index.json', maxDocumentBytes),
    fetch: (_kind, { digest }) => files.read(blobName(digest), maxDocumentBytes),
    platform: guestPlatform(process.arch),
    image: path,
  });
  const layers = resolved.layers.map(({ digest }, index) =>
    layerOf(files, { name: blobName(digest), diffId: resolved.diffIds[index]!, index }),
  );
  return {
    id: resolved.id,
    config: resolved.config,
    layers,
    layerDigests: resolved.layers.map((layer) => layer.digest),
    documents: resolved.documents,
  };
}

function parseDockerManifest(bytes: Buffer, path: string): z.output<typeof dockerManifest> {
  try {
    return z.parse(dockerManifest, JSON.parse(bytes.toString('utf8')));
  } catch (error) {
    throw new BangerError('invalid_argument', `"manifest.json" in "${path}" is not what docker save writes`, {
      hint: 'Write the archive again, with: docker save IMAGE -o FILE',
      cause: error,
    });
  }
}

function layerOf(
  files: ArchiveFiles,
  { name, diffId, index }: { name: string; diffId: string; index: number },
): LayerSource {
  async function* content(): AsyncGenerator<Buffer> {
    yield* (await files.open(name)) as AsyncIterable<Buffer>;
  }
  const open = (): Readable => Readable.from(content(), { objectMode: false });
  return { open, diffId, label: `layer ${index + 1}` };
}

function blobName(digest: string): string {
  return `blobs/sha256/${hexOf(digest)}`;
}
