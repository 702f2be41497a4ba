import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { abortError, BangerError } from '../../errors.ts';
import { deleteImageRow, getImage, moveImageNames, vmsOfImage, type Image } from '../../state/images.ts';
import type { EngineContext } from '../context.ts';
import type { Operation } from '../operations.ts';
import { getImageByReference, shownImage } from './find-image.ts';
import { withStaging } from './image-staging.ts';
import { publishImage, publishKey, stagedRootfs } from './publish-image.ts';
import { rootfsFile } from './rootfs-file.ts';

/**
 * Copies a registered image's filesystem to where banger keeps its own. All its names lead to the copy afterwards;
 * VMs that were made of the user's file go on using that, and the file stays.
 */
export async function promoteImage(
  context: EngineContext,
  reference: string,
  operation: Operation,
): Promise<Image> {
  const { signal } = operation;
  const image = getImageByReference(context.db, reference, context.config().catalog);
  const [name] = image.names;
  if (!image.external || name === undefined) {
    throw new BangerError(
      'invalid_state',
      `Image "${shownImage(image)}" is not a registered file with a name`,
      {
        hint: 'List images with: banger image list',
      },
    );
  }
  return withStaging(context.layout, async (staging) => {
    const stagingDirectory = join(staging, 'image');
    await mkdir(stagingDirectory, { mode: 0o700 });
    const copy = stagedRootfs(stagingDirectory);
    operation.enter('Copying filesystem');
    const source = await rootfsFile(context, image);
    await context.exec(['cp', '--reflink=auto', '--sparse=always', '--', source, copy], { signal });
    // Unchanged before and after: what was copied is what was registered.
    await rootfsFile(context, image);
    const id = await contentId(copy, operation);
    operation.enter('Publishing image');
    await publishImage(context, { stagingDirectory, image: { ...managed(image), id }, name }, signal);
    return context.locks.publish.run(publishKey, signal, async () => {
      moveImageNames(context.db, image.id, id);
      if (vmsOfImage(context.db, image.id).length === 0) deleteImageRow(context.db, image.id);
      return getImage(context.db, id);
    });
  });
}

/** The same image without the user's file. */
function managed(image: Image): Image {
  return { ...image, external: undefined, rootfs: undefined };
}

async function contentId(path: string, operation: Operation): Promise<string> {
  operation.enter('Hashing filesystem');
  const hash = createHash('sha256').update('rootfs.ext4\n');
  let done = 0;
  for await (const chunk of createReadStream(path, { highWaterMark: 1 << 20 }) as AsyncIterable<Buffer>) {
    if (operation.signal.aborted) throw abortError(operation.signal);
    hash.update(chunk);
    done += chunk.length;
    operation.progress({ done, unit: 'bytes' });
  }
  return hash.digest('hex');
}
