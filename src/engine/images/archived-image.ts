import * as z from 'zod/mini';
import { BangerError } from '../../errors.ts';
import type { ImageConfig } from '../../state/images.ts';
import type { ArchiveFiles, MemberKind } from './archive-files.ts';
import { layerInFile } from './file-part.ts';
import type { LayerSource } from './layers/layers.ts';
import { canonicalName, parseReference } from './reference.ts';
import {
  checkValues,
  guestPlatform,
  isPlatform,
  maxDocumentBytes,
  parseManifest,
  parseOciConfig,
  refused,
} from './registry/manifest.ts';
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
    Layers: z.array(z.string()).check(z.maxLength(500)),
  }),
);

/** Names that `docker save`, skopeo, buildkit, jib and others put into an archive of an image. */
const archiveNames =
  /^(?:repositories|oci-layout|[^/]+\.json|[^/]+\.tar(?:\.gz|\.zst)?|blobs(?:\/.*)?|(?:sha256:)?[0-9a-f]{64}(?:\/.*)?)$/;
/** Directories at the top of a root filesystem (hier(7)). */
const rootfsNames =
  /^(?:bin|boot|dev|etc|home|lib|lib32|lib64|media|mnt|opt|proc|root|run|sbin|srv|sys|tmp|usr|var)(?:\/|$)/;

/** What a member's name says of the tar it is in. */
export function memberKind(name: string): MemberKind {
  if (archiveNames.test(name)) return 'archive';
  return rootfsNames.test(name) ? 'rootfs' : 'other';
}

/** What is to be opened, and how the user calls it. */
interface Archive {
  readonly files: ArchiveFiles;
  readonly path: string;
  /** Name of one of several images in it, as the archive has it */
  readonly wanted: string | undefined;
}

/** Opens an image that an archive holds, or returns undefined when it holds none. Of several, one must be wanted. */
export async function openArchive(
  files: ArchiveFiles,
  path: string,
  wanted?: string,
): Promise<ArchivedImage | undefined> {
  const archive = { files, path, wanted };
  if (await files.has('manifest.json')) return openDockerArchive(archive);
  if (await files.has('oci-layout')) return openOciLayout(archive);
  return undefined;
}

/** True for what is an archive without doubt, though there are other files in it, too. */
export async function isArchive(files: ArchiveFiles): Promise<boolean> {
  if ((await files.has('oci-layout')) && (await files.has('index.json'))) return true;
  if (!(await files.has('manifest.json'))) return false;
  try {
    return parseDockerManifest(await files.read('manifest.json', maxDocumentBytes), '').length > 0;
  } catch (error) {
    if (error instanceof BangerError) return false;
    throw error;
  }
}

async function openDockerArchive({ files, path, wanted }: Archive): Promise<ArchivedImage> {
  const entries = parseDockerManifest(await files.read('manifest.json', maxDocumentBytes), path);
  const named = entries.map((entry) => ({ id: entry.Config, names: entry.RepoTags ?? [], entry }));
  const [found] = theOne(named, { path, wanted });
  const { entry } = found;
  const bytes = await files.read(entry.Config, maxDocumentBytes);
  const { config, diffIds } = parseOciConfig(bytes, guestPlatform(process.arch), path);
  if (entry.Layers.length === 0) throw refused(path, 'it has no layers');
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

async function openOciLayout({ files, path, wanted }: Archive): Promise<ArchivedImage> {
  const resolved = await resolveImage({
    top: chosenOfLayout(await files.read('index.json', maxDocumentBytes), { path, wanted }),
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

/** The index of a layout with no more in it than the image that is meant, for one platform or for several. */
function chosenOfLayout(bytes: Buffer, { path, wanted }: Pick<Archive, 'path' | 'wanted'>): Buffer {
  const index = parseManifest(bytes, path);
  if (index.kind !== 'index') return bytes;
  const here = guestPlatform(process.arch);
  const candidates = index.manifests
    .filter(({ platform }) => !platform || isPlatform(platform, here))
    .map((entry) => ({ id: entry.digest, names: entry.names, entry }));
  // Which there are for other machines is said where one is chosen.
  if (candidates.length === 0) return bytes;
  const meant = candidates.filter(isMeant(wanted));
  const isOneImage =
    meant.every(({ entry }) => entry.platform) && new Set(meant.map(({ names }) => names.join())).size === 1;
  const chosen = isOneImage ? meant : theOne(candidates, { path, wanted });
  const manifests = new Map(chosen.map(({ id, entry }) => [id, { ...entry, names: undefined }]));
  return Buffer.from(JSON.stringify({ schemaVersion: 2, manifests: [...manifests.values()] }));
}

/** The entries of the one image that is wanted, or of the only one there is. */
function theOne<T extends { readonly id: string; readonly names: readonly string[] }>(
  entries: readonly T[],
  { path, wanted }: Pick<Archive, 'path' | 'wanted'>,
): readonly [T, ...T[]] {
  const [first, ...others] = entries.filter(isMeant(wanted));
  if (first && others.every(({ id }) => id === first.id)) return [first, ...others];
  const known = entries.flatMap(({ names }) => names);
  const list = known.length === 0 ? 'unnamed' : known.join(', ').slice(0, 500);
  // The archive's own words, for a line that people paste.
  const example = known.find((name) => /^[\w./:@-]{1,200}$/.test(name)) ?? 'NAME';
  if (wanted !== undefined && !first)
    throw new BangerError('not_found', `"${path}" holds no image "${wanted}", but: ${list}`, {
      hint: `Choose one of them: banger image import ${path} --ref ${example}`,
    });
  const count = new Set(entries.map(({ id }) => id)).size;
  throw new BangerError('invalid_argument', `"${path}" holds ${count} images: ${list}`, {
    hint: `Say which one: banger image import ${path} --ref ${example}`,
  });
}

function isMeant(wanted: string | undefined): (entry: { readonly names: readonly string[] }) => boolean {
  return ({ names }) =>
    wanted === undefined || names.some((name) => name === wanted || isSameName(name, wanted));
}

/** `app` and `docker.io/library/app:latest` are one name; a name of a layout may be a tag alone. */
function isSameName(name: string, wanted: string): boolean {
  try {
    return canonicalName(parseReference(name)) === canonicalName(parseReference(wanted));
  } catch (error) {
    if (error instanceof BangerError) return false;
    throw error;
  }
}

function parseDockerManifest(bytes: Buffer, path: string): z.output<typeof dockerManifest> {
  checkValues(bytes, '"manifest.json"', path);
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
  return { ...layerInFile(() => files.find(name)), diffId, label: `layer ${index + 1}` };
}

function blobName(digest: string): string {
  return `blobs/sha256/${hexOf(digest)}`;
}
