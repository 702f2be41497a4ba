import { randomBytes } from 'node:crypto';
import { renameSync } from 'node:fs';
import { rm, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { errnoOf } from '../../../errors.ts';
import { namesIn } from '../../../host/files.ts';
import { hexOf } from './resolve-image.ts';

/** What a file in the cache of blobs is, by its name. */
export interface BlobFile {
  readonly digest: string;
  readonly kind: 'complete' | 'partial' | 'discarded';
}

const namePattern = /^([0-9a-f]{64})(\.partial|\.discarded-[0-9a-f]{8})?$/;

/** A download that nobody has gone on with for this long is not worth its space: a week. */
const maxPartialAgeMs = 7 * 24 * 60 * 60 * 1000;

/** Unfinished downloads may take this much together: 8 GiB. */
const maxPartialBytes = 8 * 1024 ** 3;

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
 * so that the next pull goes on with it, unless there are too many of them.
 */
export async function tidyBlobs(directory: string, now = Date.now()): Promise<void> {
  for (const name of await namesIn(directory)) {
    const kind = blobFile(name)?.kind;
    if (kind === undefined || kind === 'complete') continue;
    const path = join(directory, name);
    const age = now - ((await stat(path).catch(() => undefined))?.mtimeMs ?? now);
    if (kind === 'discarded' || age > maxPartialAgeMs) await rm(path, { force: true });
  }
  await trimPartials(directory, { isTaken: () => false });
}

/**
 * Removes unfinished downloads, the oldest first, until they take no more than `maxBytes` together. The one worked on
 * last always stays, so that a layer of any size can be had in several goes; and so do those in use.
 */
export async function trimPartials(
  directory: string,
  {
    isTaken,
    maxBytes = maxPartialBytes,
  }: { readonly isTaken: (digest: string) => boolean; readonly maxBytes?: number },
): Promise<void> {
  const partials: { digest: string; path: string; size: number; mtimeMs: number }[] = [];
  for (const name of await namesIn(directory)) {
    const file = blobFile(name);
    if (file?.kind !== 'partial') continue;
    const path = join(directory, name);
    const found = await stat(path).catch(() => undefined);
    if (found) partials.push({ digest: file.digest, path, size: found.size, mtimeMs: found.mtimeMs });
  }
  let total = partials.reduce((sum, { size }) => sum + size, 0);
  const [, ...older] = partials.toSorted((left, right) => right.mtimeMs - left.mtimeMs);
  for (const { digest, path, size } of older.toReversed()) {
    if (total <= maxBytes) return;
    if (isTaken(digest)) continue;
    const discarded = discardedBlobPath(directory, digest);
    // At once after the look: a pull that begins now must not have it taken away.
    try {
      renameSync(path, discarded);
    } catch (error) {
      if (errnoOf(error) !== 'ENOENT') throw error;
    }
    await rm(discarded, { force: true });
    total -= size;
  }
}
