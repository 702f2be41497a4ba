import { mkdir, readdir, rename, rm } from 'node:fs/promises';
import { BangerError, errnoOf, whyNotWritten } from '../errors.ts';
import { partialPath, unfinished } from './unfinished.ts';

/**
 * Lets `fill` write a directory, which appears when it is complete: until then there is one with another name beside
 * it, which goes when something fails. One that exists is used only if it is empty.
 */
export async function saveDirectory<T>(path: string, fill: (directory: string) => Promise<T>): Promise<T> {
  await refuseContent(path);
  using partial = unfinished(partialPath(path));
  const written = partial.path;
  try {
    await mkdir(written);
  } catch (error) {
    throw new BangerError('invalid_argument', `"${path}" cannot be written: ${whyNotWritten(error)}`, {
      hint: 'Choose another place with: -o DIRECTORY',
      cause: error,
    });
  }
  try {
    const result = await fill(written);
    // Takes the place of an empty directory, and of nothing else.
    await rename(written, path).catch((error: unknown) => {
      if (['ENOTEMPTY', 'EEXIST', 'ENOTDIR'].includes(errnoOf(error) ?? '')) throw taken(path);
      throw error;
    });
    return result;
  } finally {
    await rm(written, { recursive: true, force: true });
  }
}

async function refuseContent(path: string): Promise<void> {
  try {
    if ((await readdir(path)).length > 0) throw taken(path);
  } catch (error) {
    if (errnoOf(error) === 'ENOTDIR') throw taken(path);
    if (errnoOf(error) !== 'ENOENT') throw error;
  }
}

function taken(path: string): BangerError {
  return new BangerError('already_exists', `"${path}" exists and is not an empty directory`, {
    hint: 'Choose another place with: -o DIRECTORY',
  });
}
