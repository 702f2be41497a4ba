import { chmod, mkdir, stat } from 'node:fs/promises';
import { dirname } from 'node:path';
import { writeFileAtomic } from '../files.ts';

/** Writes a file that everybody may read, whatever mask root had where sudo was called: engines of users read it. */
export async function writePublicFile(path: string, content: string): Promise<void> {
  await makePublicDirectory(dirname(path));
  await writeFileAtomic(path, content, 0o644);
  await chmod(path, 0o644);
}

/** Returns whether it was not there. */
export async function makePublicDirectory(path: string): Promise<boolean> {
  if (await isThere(path)) return false;
  await mkdir(path, { recursive: true, mode: 0o755 });
  await chmod(path, 0o755);
  return true;
}

export async function isThere(path: string): Promise<boolean> {
  return stat(path).then(
    () => true,
    () => false,
  );
}
