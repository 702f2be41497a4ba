import type { Database } from '../../state/database.ts';
import { vmsOfImage, type Image } from '../../state/images.ts';
import type { ImageDetails, ImageView } from '../rpc/image-methods.ts';
import { familiarName } from './reference.ts';

/** An image as clients see it. */
export function toImageView(db: Database, image: Image): ImageView {
  return {
    id: image.id,
    names: image.names.map(familiarName),
    source: image.source,
    digest: image.digest,
    sizeBytes: image.sizeBytes,
    contentBytes: image.contentBytes,
    os: image.osRelease['PRETTY_NAME'] ?? '',
    hasShell: image.hasShell,
    createdAt: image.createdAt,
    usedBy: vmsOfImage(db, image.id),
  };
}

export function toImageDetails(db: Database, image: Image): ImageDetails {
  const { env, workingDirectory, user, entrypoint, command } = image.config;
  return {
    ...toImageView(db, image),
    layers: [...image.layers],
    osRelease: { ...image.osRelease },
    config: {
      env: [...env],
      workingDirectory,
      user,
      entrypoint: entrypoint && [...entrypoint],
      command: command && [...command],
    },
  };
}
