import { createReadStream } from 'node:fs';
import { uncompressedInPlace } from '../layers/layer-stream.ts';
import { firstLook, TarReader } from '../layers/tar-reader.ts';
import { bundleMembers, isOfBundle, maxManifestBytes } from './bundle-format.ts';

/** True for a file that says of itself that it is a bundle, whether it can be used or not. Reads only its beginning. */
export async function isBundle(path: string): Promise<boolean> {
  const reader = new TarReader(uncompressedInPlace(createReadStream(path)), firstLook);
  try {
    const entry = await reader.next();
    if (entry?.path !== bundleMembers.manifest || entry.size > maxManifestBytes) return false;
    const bytes = Buffer.alloc(entry.size);
    await reader.body(async (offset, data) => void data.copy(bytes, offset));
    return isOfBundle(JSON.parse(bytes.toString('utf8')));
  } catch {
    // Not a tar, or damaged: whoever reads all of it says what is wrong.
    return false;
  } finally {
    await reader.close();
  }
}
