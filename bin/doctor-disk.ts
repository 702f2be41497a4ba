import { dirname } from 'node:path';
import { convertLayers } from '../src/engine/images/layers/layers.ts';
import type { Assets } from '../src/host/assets.ts';

const gib = 1024 ** 3;

/** Makes a root disk of the embedded image for the doctor's trial boot, which may not use the engine's images. */
export async function makeRootDisk(assets: Assets, path: string): Promise<void> {
  await convertLayers({
    layers: [{ open: () => assets.open('base.tar.zst'), label: 'base image' }],
    destination: path,
    workDirectory: dirname(path),
    sizeBytes: 8 * gib,
    seed: 'doctor',
    signal: new AbortController().signal,
  });
}
