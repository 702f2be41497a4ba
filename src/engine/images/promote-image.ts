import { createHash } from 'node:crypto';
import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { abortError, BangerError } from '../../errors.ts';
import type { Image } from '../../state/images.ts';
import type { EngineContext, ImageContext } from '../context.ts';
import type { Operation } from '../operations.ts';
import { sparseMap } from './bundle/bundle-format.ts';
import { findStretches, readStretches } from './bundle/file-stretches.ts';
import { getImageHere } from './find-image.ts';
import { imageServices } from './image-services.ts';
import { withStaging } from './image-staging.ts';
import { publishImage, stagedRootfs } from './publish-image.ts';
import { rootfsFile } from './rootfs-file.ts';

/**
 * Copies a registered image's filesystem to where banger keeps its own. All its names lead to the copy afterwards;
 * VMs that were made of the user's file go on using that, and the file stays.
 */
export async function promoteImage(
  context: ImageContext & Pick<EngineContext, 'exec'>,
  reference: string,
  operation: Operation,
): Promise<Image> {
  const { signal } = operation;
  const image = getImageHere(context.db, reference, context.config().catalog);
  if (!image.external || image.names.length === 0) {
    throw new BangerError('invalid_state', `Image "${reference}" is not a registered file with a name`, {
      hint: 'List images with: banger image list',
    });
  }
  return withStaging(context.layout, async (staging) => {
    using held = imageServices(context).leases.images.take([image.id]);
    const stagingDirectory = join(staging, 'image');
    await mkdir(stagingDirectory, { mode: 0o700 });
    const copy = stagedRootfs(stagingDirectory);
    operation.enter('Copying filesystem');
    const source = await rootfsFile(context, image);
    await context.exec(['cp', '--reflink=auto', '--sparse=always', '--', source, copy], { signal });
    // Unchanged before and after: what was copied is what was registered.
    await rootfsFile(context, image);
    const id = await contentId(copy, operation);
    // From here on, publishing finds out what has become of it. It is forgotten when nobody else holds it.
    held[Symbol.dispose]();
    operation.enter('Publishing image');
    return publishImage(
      context,
      { stagingDirectory, image: { ...managed(image), id }, replaces: image.id },
      signal,
    );
  });
}

/** The same image without the user's file. */
function managed(image: Image): Image {
  return { ...image, external: undefined, rootfs: undefined };
}

/** Of what is no hole: a filesystem of gigabytes is mostly holes. */
async function contentId(path: string, operation: Operation): Promise<string> {
  operation.enter('Hashing filesystem');
  const { sizeBytes, stretches } = await findStretches(path, operation);
  const hash = createHash('sha256').update('rootfs.ext4\n');
  for await (const piece of sparseMap(sizeBytes, stretches)) hash.update(piece);
  for await (const chunk of readStretches(path, stretches)) {
    if (operation.signal.aborted) throw abortError(operation.signal);
    hash.update(chunk);
  }
  return hash.digest('hex');
}
