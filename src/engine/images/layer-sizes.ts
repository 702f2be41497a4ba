import { readFile } from 'node:fs/promises';
import { errnoOf } from '../../errors.ts';
import type { Image } from '../../state/images.ts';
import { imagePaths, type Layout } from '../../state/layout.ts';
import { parseManifest } from './registry/manifest.ts';

/** Sizes of an image's layers as they came, by digest; nothing is known of one that came without a manifest. */
export async function layerSizes(layout: Layout, image: Image): Promise<ReadonlyMap<string, number>> {
  let bytes: Buffer;
  try {
    bytes = await readFile(imagePaths(layout, image.id).manifest);
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return new Map();
    throw error;
  }
  const manifest = parseManifest(bytes, image.id);
  if (manifest.kind === 'index') return new Map();
  return new Map(manifest.layers.map((layer) => [layer.digest, layer.size]));
}
