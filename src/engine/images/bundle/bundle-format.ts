import { createHash } from 'node:crypto';
import * as z from 'zod/mini';
import type { ImageConfig } from '../../../state/images.ts';
import type { Stretches } from '../ext4/stretches.ts';
import { Turns } from '../ext4/turns.ts';
import { tarBlockSize } from '../layers/tar-header.ts';
import { LayerRefusal } from '../layers/layer-refusal.ts';

/**
 * A bundle is a tar packed by zstd with two members, in this order: `manifest.json`, which tells of the image, and
 * `rootfs.ext4`, its filesystem as a sparse file (GNU tar manual, “PAX Format, Version 1.0”).
 */
export const bundleMembers = { manifest: 'manifest.json', rootfs: 'rootfs.ext4' } as const;

export const bundleKind = 'banger-image';

/** A manifest has a few kilobytes; a config with more is none. */
export const maxManifestBytes = 1024 * 1024;

const short = z.string().check(z.maxLength(64 * 1024));
const texts = z.array(short).check(z.maxLength(10_000));

const manifestSchema = z.object({
  schemaVersion: z.literal(1),
  kind: z.literal(bundleKind),
  /** As the user wrote it or would; absent for an image without a name */
  name: z.optional(short),
  os: short,
  architecture: short,
  config: z.object({
    env: texts,
    workingDirectory: z.optional(short),
    user: z.optional(short),
    entrypoint: z.optional(texts),
    command: z.optional(texts),
  }),
  rootfs: z.object({
    /** Of the file, holes included */
    sizeBytes: z.int().check(z.positive()),
    /** Of the member in the tar: the map and what is no hole */
    storedBytes: z.int().check(z.positive()),
    /** Hex, of the member as it is stored */
    sha256: z.string().check(z.regex(/^[0-9a-f]{64}$/, 'is not a SHA-256')),
  }),
});
export type BundleManifest = z.output<typeof manifestSchema>;

/** It has another purpose: nothing is damaged. */
export class NotOfBundle extends LayerRefusal {}

/** True for a `manifest.json` that says of itself that it is a bundle's. */
export function isOfBundle(document: unknown): boolean {
  return (
    typeof document === 'object' && document !== null && 'kind' in document && document.kind === bundleKind
  );
}

/** Parses what claims to be a manifest, in words for the member's refusal. */
export function parseBundleManifest(bytes: Buffer): BundleManifest {
  let document: unknown;
  try {
    document = JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(bytes));
  } catch {
    throw new LayerRefusal('is not JSON');
  }
  const parsed = manifestSchema.safeParse(document);
  if (parsed.success) return parsed.data;
  if (!isOfBundle(document)) throw new NotOfBundle('is not that of a bundle');
  const [issue] = parsed.error.issues;
  throw new LayerRefusal(`has a wrong "${issue?.path.join('.') ?? ''}"`);
}

/**
 * The id of an image that comes in a bundle. It follows from what is in it, never from what it says about itself: no
 * bundle is taken for another image.
 */
export function bundleImageId(rootfsSha256: string, config: ImageConfig): string {
  const { env, workingDirectory, user, entrypoint, command } = config;
  return createHash('sha256')
    .update(`bundle\n${rootfsSha256}\n`)
    .update(
      JSON.stringify([env, workingDirectory ?? null, user ?? null, entrypoint ?? null, command ?? null]),
    )
    .digest('hex');
}

/** Stretches whose part of a map is made in one go, in a few milliseconds */
const stretchesPerPiece = 4096;

/**
 * The map in front of a sparse member's data. It names the size, too: a hole at the end is an empty stretch there.
 * Of a million stretches it takes seconds, in which others get their turns.
 */
export async function* sparseMap(sizeBytes: number, stretches: Stretches): AsyncGenerator<Buffer> {
  const turns = new Turns();
  for (const piece of sparseMapPieces(sizeBytes, stretches)) {
    yield piece;
    await turns.share();
  }
}

export function* sparseMapPieces(sizeBytes: number, stretches: Stretches): Generator<Buffer> {
  const holeAtEnd = endOf(stretches) < sizeBytes ? [{ offset: sizeBytes, length: 0 }] : [];
  let text = `${stretches.length + holeAtEnd.length}\n`;
  let length = 0;
  let inText = 0;
  for (const some of [stretches, holeAtEnd]) {
    for (const stretch of some) {
      text += `${stretch.offset}\n${stretch.length}\n`;
      if (++inText < stretchesPerPiece) continue;
      yield Buffer.from(text, 'latin1');
      length += text.length;
      text = '';
      inText = 0;
    }
  }
  length += text.length;
  yield Buffer.from(text + '\0'.repeat((tarBlockSize - (length % tarBlockSize)) % tarBlockSize), 'latin1');
}

function endOf(stretches: Stretches): number {
  let end = 0;
  for (const { offset, length } of stretches) end = offset + length;
  return end;
}
