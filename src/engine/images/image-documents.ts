import { existsSync } from 'node:fs';
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { errnoOf } from '../../errors.ts';
import { writeFileAtomic } from '../../host/files.ts';
import type { imagePaths } from '../../state/layout.ts';
import type { ImageDocuments } from './registry/resolve-image.ts';

/** Writes what describes an image beside its filesystem. */
export async function writeDocuments(
  directory: string,
  documents: ImageDocuments | undefined,
): Promise<void> {
  const options = { mode: 0o600, flush: true };
  if (documents?.manifest) await writeFile(join(directory, 'manifest.json'), documents.manifest, options);
  if (documents?.config) await writeFile(join(directory, 'config.json'), documents.config, options);
}

/** Tags of one image may have different manifests, such as docker's and OCI's: each name leaves with its own. */
export async function keepDocuments(
  paths: ReturnType<typeof imagePaths>,
  {
    digest,
    documents: { manifest, config },
  }: { readonly digest: string; readonly documents: ImageDocuments },
): Promise<void> {
  if (config && !existsSync(paths.config)) await writeFileAtomic(paths.config, config, 0o600);
  if (!manifest) return;
  const known = await readFile(paths.manifest).catch((error: unknown) => {
    if (errnoOf(error) === 'ENOENT') return undefined;
    throw error;
  });
  if (!known) await writeFileAtomic(paths.manifest, manifest, 0o600);
  else if (!known.equals(manifest)) await writeFileAtomic(paths.manifestOf(digest), manifest, 0o600);
}
