import { rm, rmdir } from 'node:fs/promises';
import { join } from 'node:path';
import { errnoOf } from '../../errors.ts';
import { listHostSetups } from './host-setup.ts';
import { isThere, makePublicDirectory, writePublicFile } from './public-files.ts';

/**
 * The file by which the directory of setups is known to be made by one, so that it goes with the last of them: one that
 * was there before is somebody else's, empty or not.
 */
function markFile(directory: string) {
  return {
    path: join(directory, 'made-by-host-setup'),
    content: 'This directory goes with the last setup in it: sudo banger host teardown\n',
  };
}

/** The mark that a setup leaves there, if it does. */
export async function planDirectoryMark(directory: string): Promise<ReturnType<typeof markFile>[]> {
  const mark = markFile(directory);
  const isOurs = !(await isThere(directory)) || (await isThere(mark.path));
  return isOurs ? [mark] : [];
}

export async function ensureConfigDirectory(directory: string): Promise<void> {
  if (!(await makePublicDirectory(directory))) return;
  const { path, content } = markFile(directory);
  await writePublicFile(path, content);
}

/** Removes it when no setup is in it any more, and returns the mark if that went. What others have put there stays. */
export async function removeConfigDirectory(directory: string): Promise<string[]> {
  const { path } = markFile(directory);
  if (listHostSetups(directory).length > 0 || !(await isThere(path))) return [];
  await rm(path);
  await rmdir(directory).catch((error: unknown) => {
    if (errnoOf(error) !== 'ENOTEMPTY') throw error;
  });
  return [path];
}
