import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { mkdir, stat } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { abortError, BangerError, errnoOf } from '../../../errors.ts';
import type { Image } from '../../../state/images.ts';
import type { Operation } from '../../operations.ts';
import { parseDownload, type Download, type DownloadUse } from '../downloads/download.ts';
import { imageServices, type ImagesContext } from '../image-services.ts';
import { withStaging } from '../image-staging.ts';
import { newName } from '../new-name.ts';
import { publishImage, refuseTakenName, stagedRootfs, type NewImage } from '../publish-image.ts';
import { identify, sameFile } from '../rootfs-file.ts';
import { bundleImageId } from './bundle-format.ts';
import { readBundle } from './read-bundle.ts';

export interface BundlePull {
  /** Absolute path, or http or https address */
  readonly source: string;
  /** Hex, of the bundle; must be here or in the address for one from a server */
  readonly sha256?: string;
  /** Absent: the name that the bundle brings, unless another image has it */
  readonly name?: string;
}

const use: DownloadUse = {
  pull: 'banger image pull',
  useFile: 'banger image pull ./FILE',
  maxBytes: 512 * 1024 ** 3,
};

/** Makes an image of a bundle, from a file or a server. Nothing of it is used before its hash is known to be right. */
export async function pullBundle(
  context: ImagesContext,
  { source, sha256, name }: BundlePull,
  operation: Operation,
): Promise<Image> {
  const wantedName = name === undefined ? undefined : newName(name);
  const download = source.includes('://') ? parseDownload(source, use, sha256) : undefined;
  return withStaging(context.layout, async (staging) => {
    if (!download) return pullFile(context, { path: source, sha256, wantedName, staging }, operation);
    const path = join(staging, 'bundle');
    await fetch(context, { download, path }, operation);
    const shown = download.url.pathname.split('/').at(-1) || download.url.host;
    return unpack(context, { path, shown, wantedName, staging }, operation);
  });
}

async function fetch(
  context: ImagesContext,
  { download, path }: { readonly download: Download; readonly path: string },
  operation: Operation,
): Promise<void> {
  operation.enter('Downloading bundle');
  await imageServices(context).tools.downloads.file(download, path, operation);
}

async function pullFile(
  context: ImagesContext,
  file: {
    readonly path: string;
    readonly sha256: string | undefined;
    readonly wantedName: string | undefined;
    readonly staging: string;
  },
  operation: Operation,
): Promise<Image> {
  const { path, sha256, wantedName, staging } = file;
  const before = await readable(path, async () => {
    if ((await stat(path)).isFile()) return identify(path);
    throw new BangerError('invalid_argument', `"${path}" is not a file`);
  });
  if (sha256 !== undefined) await readable(path, () => checkHash(path, sha256, operation));
  const isUnchanged = async (): Promise<void> => {
    if (sameFile(await identify(path), before)) return;
    throw new BangerError('busy', `"${path}" is being written`, {
      hint: `Try again when nothing writes to it: banger image pull ${path}`,
    });
  };
  const shown = basename(path);
  return readable(path, () => unpack(context, { path, shown, wantedName, staging, isUnchanged }, operation));
}

async function unpack(
  context: ImagesContext,
  bundle: {
    readonly path: string;
    readonly shown: string;
    readonly wantedName: string | undefined;
    readonly staging: string;
    readonly isUnchanged?: () => Promise<void>;
  },
  operation: Operation,
): Promise<Image> {
  operation.enter('Unpacking bundle');
  const stagingDirectory = join(bundle.staging, 'image');
  await mkdir(stagingDirectory, { mode: 0o700 });
  const rootfs = stagedRootfs(stagingDirectory);
  const { manifest, facts } = await readBundle(bundle.path, { shown: bundle.shown, rootfs }, operation);
  await bundle.isUnchanged?.();

  operation.enter('Publishing image');
  const name = bundle.wantedName ?? broughtName(manifest.name, bundle.shown);
  const id = bundleImageId(manifest.rootfs.sha256, manifest.config);
  if (bundle.wantedName === undefined) refuseTakenName(context.db, name, id);
  const image: NewImage = {
    id,
    source: 'bundle',
    sizeBytes: manifest.rootfs.sizeBytes,
    contentBytes: (await stat(rootfs)).blocks * 512,
    config: manifest.config,
    layers: [],
    ...facts,
  };
  const isNameOffered = bundle.wantedName === undefined;
  return publishImage(context, { stagingDirectory, image, name, isNameOffered }, operation.signal);
}

/** A bundle's own name is text from a stranger: it has to be a name that a user could give. */
function broughtName(name: string | undefined, shown: string): string {
  const hint = `Give it one: banger image pull ${shown} --name NAME`;
  if (name === undefined) throw new BangerError('invalid_argument', `"${shown}" brings no name`, { hint });
  try {
    return newName(name);
  } catch (error) {
    if (!(error instanceof BangerError)) throw error;
    throw new BangerError('invalid_argument', `"${shown}" brings a name that no image can have here`, {
      hint,
      cause: error,
    });
  }
}

async function checkHash(path: string, sha256: string, operation: Operation): Promise<void> {
  operation.enter('Hashing bundle');
  const hash = createHash('sha256');
  let done = 0;
  for await (const chunk of createReadStream(path, { highWaterMark: 1 << 20 }) as AsyncIterable<Buffer>) {
    if (operation.signal.aborted) throw abortError(operation.signal);
    hash.update(chunk);
    done += chunk.length;
    operation.progress({ done, unit: 'bytes' });
  }
  const found = hash.digest('hex');
  if (found === sha256.toLowerCase()) return;
  throw new BangerError('command_failed', `"${path}" has the SHA-256 ${found}, not ${sha256}`, {
    hint: 'Nothing of it was used. Fetch it again, or correct the hash if the bundle was replaced',
  });
}

async function readable<T>(path: string, look: () => Promise<T>): Promise<T> {
  try {
    return await look();
  } catch (error) {
    const errno = errnoOf(error);
    if (errno === 'ENOENT' || errno === 'ENOTDIR')
      throw new BangerError('not_found', `There is no file "${path}"`, { cause: error });
    if (errno === 'EACCES')
      throw new BangerError('invalid_argument', `"${path}" cannot be read: ${errno}`, { cause: error });
    throw error;
  }
}
