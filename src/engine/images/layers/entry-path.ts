import { maxNameLength } from '../ext4/format.ts';
import { LayerRefusal } from './layer-refusal.ts';

/** Of names that hide what lower layers have (OCI image spec, “Whiteouts”). */
export const whiteoutPrefix = '.wh.';

/** PATH_MAX: what is longer could not be opened inside the VM. */
const maxPathLength = 4096;

/**
 * Splits the path of an entry (a byte string) into its names. Leading slashes
 * are dropped, as docker does: the image's root is the only root there is.
 */
export function parseEntryPath(path: string): string[] {
  if (path.includes('\0')) throw new LayerRefusal('has a zero byte in its path');
  if (path.length > maxPathLength) throw new LayerRefusal(`has a path of more than ${maxPathLength} bytes`);
  const names = path.split('/').filter((name) => name !== '' && name !== '.');
  for (const name of names) {
    if (name === '..') throw new LayerRefusal('has ".." in its path');
    if (name.length > maxNameLength)
      throw new LayerRefusal(`has a name of more than ${maxNameLength} bytes in its path`);
  }
  return names;
}
