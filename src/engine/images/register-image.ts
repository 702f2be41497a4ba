import { createHash } from 'node:crypto';
import { stat } from 'node:fs/promises';
import { BangerError, errnoOf } from '../../errors.ts';
import { getImage, insertImage, setImageName, type Image } from '../../state/images.ts';
import type { ImageContext } from '../context.ts';
import type { Operation } from '../operations.ts';
import { readFactsOfFile } from './ext4-reader/rootfs-facts.ts';
import { newName } from './new-name.ts';
import { publishKey } from './publish-image.ts';
import { identify, sameFile } from './rootfs-file.ts';

/**
 * Makes an image of an ext4 filesystem in a file of the user's, which stays where it is: it is looked at, never
 * written, never deleted. Every use checks that it is still the same file, unchanged.
 */
export async function registerImage(
  context: ImageContext,
  { path, name }: { readonly path: string; readonly name: string },
  operation: Operation,
): Promise<Image> {
  const stored = newName(name);
  operation.enter('Reading filesystem');
  const external = await readable(path, () => identify(path));
  const found = await readable(path, () => stat(path));
  if (!found.isFile()) {
    throw new BangerError('invalid_argument', `"${path}" is not a file`, {
      hint: 'Register a file that holds an ext4 filesystem, such as: banger image register rootfs.ext4',
    });
  }
  const facts = await readable(path, () => readFactsOfFile(path));
  if (!sameFile(await identify(path), external)) {
    throw new BangerError('busy', `"${path}" is being written`, {
      hint: `Try again when nothing writes to it: banger image register ${path} --name ${name}`,
    });
  }
  // The content is not read as a whole: a file that is another, or was changed, is another image.
  const id = createHash('sha256')
    .update(`registered\n${JSON.stringify(external)}`)
    .digest('hex');
  return context.locks.publish.run(publishKey, operation.signal, async () => {
    context.db.transaction(() => {
      insertImage(context.db, {
        id,
        source: 'register',
        external,
        sizeBytes: external.sizeBytes,
        contentBytes: found.blocks * 512,
        config: { env: [] },
        layers: [],
        ...facts,
        createdAt: new Date().toISOString(),
      });
      setImageName(context.db, stored, id);
    })();
    return getImage(context.db, id);
  });
}

async function readable<T>(path: string, look: () => Promise<T>): Promise<T> {
  try {
    return await look();
  } catch (error) {
    const errno = errnoOf(error);
    if (error instanceof BangerError && error.code === 'invalid_argument') {
      throw new BangerError('invalid_argument', `"${path}" cannot be an image: ${error.message}`, {
        hint: `Check it with: e2fsck -fn ${path}`,
        cause: error,
      });
    }
    if (errno === 'ENOENT')
      throw new BangerError('not_found', `There is no file "${path}"`, { cause: error });
    if (errno === 'EACCES' || errno === 'EISDIR')
      throw new BangerError('invalid_argument', `"${path}" cannot be read: ${errno}`, { cause: error });
    throw error;
  }
}
