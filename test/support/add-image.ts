import { buildImage } from '../../src/engine/images/build-image.ts';
import type { ImagesContext } from '../../src/engine/images/image-services.ts';
import { withStaging } from '../../src/engine/images/image-staging.ts';
import type { Image } from '../../src/state/images.ts';
import { recordedOperation } from './image-context.ts';

export const digest = `sha256:${'d'.repeat(64)}`;

/** Makes an image of no layers, as a pull would have. */
export async function addImage(context: ImagesContext, name: string, id: string): Promise<Image> {
  const parts = { layers: [], source: 'pull', digest, config: { env: [] } } as const;
  return withStaging(context.layout, (stagingDirectory) =>
    buildImage(context, { ...parts, stagingDirectory, name, id }, recordedOperation()),
  );
}

/** Ids that begin alike. */
export const one = 'abcdef'.padEnd(64, '1');
export const two = 'abcdef'.padEnd(64, '2');
