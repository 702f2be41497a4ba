import { randomBytes } from 'node:crypto';
import { readdir, rm, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { errnoOf } from '../../../errors.ts';
import { hexOf } from './resolve-image.ts';

/** What a file in the cache of blobs is, by its name. */
export interface BlobFile {
  readonly digest: string;
  readonly kind: 'complete' | 'partial' | 'discarded';
}

const namePattern = /^([0-9a-f]{64})(\.partial|\.discarded-[0-9a-f]{8})?$/;

/** A download that nobody has gone on with for this long is not worth its space: a week. */
const maxPartialAgeMs = 7 * 24 * 60 * 60 * 1000;

export function blobPath(directory: string, digest: string): string {
  return join(directory, hexOf(digest));
}

/** Where a download is until it is complete. */
export function partialBlobPath(directory: string, digest: string): string {
  return `${blobPath(directory, digest)}.partial`;
}

/** A name for a blob that is being removed. */
export function discardedBlobPath(directory: string, digest: string): string {
  return `${blobPath(directory, digest)}.discarded-${randomBytes(4).toString('hex')}`;
}

/** Reads a file name; undefined when it is none of ours. */
export function blobFile(name: string): BlobFile | undefined {
  const [, hex, suffix] = namePattern.exec(name) ?? [];
  if (hex === undefined) return undefined;
  const kind = suffix === undefined ? 'complete' : suffix === '.partial' ? 'partial' : 'discarded';
  return { digest: `sha256:${hex}`, kind };
}

/**
 * Removes what engines that died left in the cache, for the start of an engine. A partial download stays for a week,
 * so that the next pull goes on with it.
 */
export async function tidyBlobs(directory: string, now = Date.now()): Promise<void> {
  const names = await readdir(directory).catch((error: unknown) => {
    if (errnoOf(error) === 'ENOENT') return [];
    throw error;
  });
  for (const name of names) {
    const kind = blobFile(name)?.kind;
    if (kind === undefined || kind === 'complete') continue;
    const path = join(directory, name);
    const age = now - ((await stat(path).catch(() => undefined))?.mtimeMs ?? now);
    if (kind === 'discarded' || age > maxPartialAgeMs) await rm(path, { force: true });
  }
}
