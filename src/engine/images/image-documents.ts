import { existsSync } from 'node:fs';
import { readdir, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { BangerError, errnoOf } from '../../errors.ts';
import { writeFileAtomic } from '../../host/files.ts';
import type { Image } from '../../state/images.ts';
import { imageFiles, type ImagePaths } from '../../state/layout.ts';
import { parseManifest } from './registry/manifest.ts';
import type { ImageDocuments } from './registry/resolve-image.ts';

const options = { mode: 0o600, flush: true };

/** Writes what describes an image beside its filesystem. */
export async function writeDocuments(
  directory: string,
  documents: ImageDocuments | undefined,
): Promise<void> {
  const paths = imageFiles(directory);
  if (documents?.manifest) await writeFile(paths.manifest, documents.manifest, options);
  if (documents?.config) await writeFile(paths.config, documents.config, options);
}

/** What was written there. */
export async function readDocuments(directory: string): Promise<ImageDocuments> {
  const { manifest, config } = imageFiles(directory);
  return { manifest: await readIfPresent(manifest), config: await readIfPresent(config) };
}

/**
 * Keeps what an image was pulled with now. Tags of one image may have different manifests, such as docker's and OCI's:
 * each name leaves with its own. `manifest.json` is that of `first`, the digest that the image first came with.
 */
export async function keepDocuments(
  paths: ImagePaths,
  {
    digest,
    documents: { manifest, config },
    first,
  }: { readonly digest: string; readonly documents: ImageDocuments; readonly first: string | undefined },
): Promise<void> {
  if (config && !existsSync(paths.config)) await writeFileAtomic(paths.config, config, 0o600);
  if (!manifest) return;
  const known = digest === first ? await readIfPresent(paths.manifest) : undefined;
  if (known?.equals(manifest)) return;
  const isFirst = digest === first && !known;
  await writeFileAtomic(isFirst ? paths.manifest : paths.manifestOf(digest), manifest, 0o600);
}

const manifestPattern = /^manifest(?:-[0-9a-f]{64})?\.json$/;

/**
 * Takes manifests of an image along into the directory that replaces its own, since its names still have their digests.
 * What is new there was pulled with `digest`, if it was. Damaged ones stay behind.
 */
export async function takeDocumentsAlong(
  image: Image,
  from: {
    readonly directory: string;
    readonly stagingDirectory: string;
    readonly digest: string | undefined;
  },
): Promise<void> {
  const { directory, stagingDirectory, digest } = from;
  const staged = imageFiles(stagingDirectory);
  if (image.digest !== undefined && digest !== image.digest && existsSync(staged.manifest)) {
    if (digest === undefined) await rm(staged.manifest);
    else await rename(staged.manifest, staged.manifestOf(digest));
  }
  for (const name of await readdir(directory)) {
    const to = join(stagingDirectory, name);
    if (!manifestPattern.test(name) || existsSync(to)) continue;
    const bytes = await readFile(join(directory, name));
    if (isManifestOf(image.id, bytes)) await writeFile(to, bytes, options);
  }
}

function isManifestOf(id: string, bytes: Buffer): boolean {
  try {
    const manifest = parseManifest(bytes, id);
    return manifest.kind === 'manifest' && manifest.config.digest === `sha256:${id}`;
  } catch (error) {
    if (error instanceof BangerError) return false;
    throw error;
  }
}

/** A document, if there is one. */
export async function readIfPresent(path: string): Promise<Buffer | undefined> {
  try {
    return await readFile(path);
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return undefined;
    throw error;
  }
}
