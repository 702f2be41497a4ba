import { createReadStream } from 'node:fs';
import { open, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { BangerError, errnoOf } from '../../errors.ts';
import { shellWord } from '../../host/shell-quote.ts';
import type { Image } from '../../state/images.ts';
import type { Operation } from '../operations.ts';
import { cleanMemberName, directoryFiles, tarFiles, type ArchiveFiles } from './archive-files.ts';
import { isArchive, memberKind, openArchive, type ArchivedImage } from './archived-image.ts';
import { buildImage } from './build-image.ts';
import { isBundle } from './bundle/is-bundle.ts';
import { layerInFile } from './file-part.ts';
import type { ImagesContext } from './image-services.ts';
import { withStaging } from './image-staging.ts';
import { formatOf, signatureBytes, uncompressedInPlace } from './layers/layer-stream.ts';
import { firstLook, TarReader } from './layers/tar-reader.ts';
import { newName } from './new-name.ts';
import { nameImage } from './publish-image.ts';
import { spoolArchive } from './spool-archive.ts';

export interface ImageImport {
  readonly path: string;
  readonly name: string;
  /** Which image, in an archive of several: its name there */
  readonly ref?: string | undefined;
}

/**
 * Makes an image of a file or directory on the host, whatever it turns out to be: a rootfs tar (plain, gzip or
 * zstd), a `docker save` archive, or an OCI layout as a directory or tar.
 */
export async function importImage(
  context: ImagesContext,
  request: ImageImport,
  operation: Operation,
): Promise<Image> {
  const { path, name } = request;
  const storedName = newName(name);
  operation.enter('Reading archive');
  return withStaging(context.layout, async (stagingDirectory) => {
    const archived = await openArchiveAt(request, stagingDirectory, operation);
    const present =
      archived && (await nameImage(context, { id: archived.id, name: storedName }, operation.signal));
    if (present) return present;

    operation.enter('Converting layers');
    const parts = archived ?? {
      layers: [{ ...layerInFile(async () => ({ path, start: 0 })), label: path }],
      config: { env: [] },
    };
    return buildImage(
      context,
      { ...parts, stagingDirectory, source: 'import', name: storedName },
      operation,
    ).catch((error: unknown) => {
      throw aboutFile(error, archived ? 'archive' : 'rootfs');
    });
  });
}

const fileHint =
  'A file is imported when it is a tar of a root filesystem, what docker save wrote, or an OCI layout; see: banger image import --help';

/** The converter knows what is wrong, and where, but not what it was given. */
function aboutFile(error: unknown, kind: 'archive' | 'rootfs'): unknown {
  if (!(error instanceof BangerError) || error.code !== 'invalid_argument' || error.hint !== undefined)
    return error;
  if (kind === 'archive')
    return new BangerError(error.code, error.message, {
      hint: 'The archive is damaged, or what wrote it is at fault. Write it again, with: docker save IMAGE -o FILE',
      cause: error,
    });
  // Its only layer is the file.
  const message = error.message.replace(/^Layer (?=")/, '');
  return new BangerError(error.code, message, { hint: fileHint, cause: error });
}

/** An image of nothing would take its name from a good one. */
export function emptySource(message: string): BangerError {
  return new BangerError('invalid_argument', message, {
    hint: 'What wrote it may have failed: see what that says. An image without files is made of a tar without files',
  });
}

/** Opens what is at a path as an archive of an image; undefined when it is a root filesystem. */
async function openArchiveAt(
  { path, name, ref }: ImageImport,
  stagingDirectory: string,
  operation: Operation,
): Promise<ArchivedImage | undefined> {
  const kind = await kindOf(path, name);
  if (kind === 'directory') {
    const archived = await openArchive(directoryFiles(path), path, ref);
    if (archived) return archived;
    throw new BangerError('invalid_argument', `"${path}" is a directory, but not an OCI layout`, {
      hint: `Import a directory tree with: tar -C ${path} -cf rootfs.tar . && banger image import rootfs.tar`,
    });
  }
  if (await isBundle(path)) {
    throw new BangerError(
      'invalid_argument',
      `"${path}" is a bundle, which has an image's filesystem in it`,
      {
        hint: `Take it with: banger image pull ${path}`,
      },
    );
  }
  if (kind === 'compressed' && (await unpacksToNothing(path)))
    throw emptySource(`"${path}" unpacks to nothing`);
  let files: ArchiveFiles | undefined;
  if (kind === 'plain') {
    files = await archiveFiles(path);
  } else if ((await firstKind(path)) === 'archive') {
    // The layers are read one by one from where they are, which needs the outer tar as a file.
    const spooled = join(stagingDirectory, 'archive.tar');
    operation.enter('Decompressing archive');
    await spoolArchive(path, spooled, { operation });
    files = await archiveFiles(spooled);
  }
  const archived = files && (await openArchive(files, path, ref));
  if (archived || ref === undefined) return archived;
  if ((await firstKind(path)) === 'damaged') {
    throw new BangerError('invalid_argument', `"${path}" is not a tar file, so that "${ref}" is not in it`, {
      hint: fileHint,
    });
  }
  throw new BangerError('invalid_argument', `"${path}" is no archive of images, in which "${ref}" could be`, {
    hint: `Import it as the root filesystem that it is: banger image import ${path}`,
  });
}

async function kindOf(path: string, name: string): Promise<'directory' | 'plain' | 'compressed'> {
  try {
    const found = await stat(path);
    if (found.isDirectory()) return 'directory';
    if (!found.isFile())
      throw new BangerError('invalid_argument', `"${path}" is neither a file nor a directory`);
    const file = await open(path, 'r');
    try {
      const { buffer, bytesRead } = await file.read(Buffer.alloc(signatureBytes), 0, signatureBytes, 0);
      if (bytesRead === 0) throw emptySource(`"${path}" is empty`);
      return formatOf(buffer.subarray(0, bytesRead)) === 'plain' ? 'plain' : 'compressed';
    } finally {
      await file.close();
    }
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') {
      throw new BangerError('not_found', `There is no file "${path}"`, {
        hint: 'Give the path of a file. What is in a registry is fetched with: banger image pull NAME',
        cause: error,
      });
    }
    if (errnoOf(error) === 'EACCES') {
      throw new BangerError('invalid_argument', `"${path}" cannot be read`, {
        hint: `Send it to banger: sudo cat ${shellWord(path)} | banger image import - --name ${shellWord(name)}`,
        cause: error,
      });
    }
    throw error;
  }
}

async function unpacksToNothing(path: string): Promise<boolean> {
  try {
    for await (const chunk of uncompressedInPlace(createReadStream(path))) if (chunk.length > 0) return false;
    return true;
  } catch {
    // What is wrong with it is found by whoever reads it next.
    return false;
  }
}

async function archiveFiles(path: string): Promise<ArchiveFiles | undefined> {
  const files = await tarFiles(path, memberKind);
  return files && (!files.hasOthers || (await isArchive(files))) ? files : undefined;
}

/** Entries that say nothing of the tar they are in, such as directories, before it is taken for a root filesystem */
const maxUnclear = 100;
/** Bytes of files that are passed over for that */
const maxUnclearBytes = 4 * 1024 * 1024;

/**
 * What the first telling name inside a tar says of it: spooling a large rootfs only to find out would be a waste.
 * "damaged" for what is no tar: the converter reads it next and says what is wrong.
 */
async function firstKind(path: string): Promise<'archive' | 'rootfs' | 'damaged'> {
  const reader = new TarReader(uncompressedInPlace(createReadStream(path)), firstLook);
  try {
    let bytes = 0;
    for (let count = 0; count < maxUnclear && bytes <= maxUnclearBytes; count++) {
      const entry = await reader.next();
      if (!entry) return count === 0 ? 'damaged' : 'rootfs';
      const kind = memberKind(cleanMemberName(entry.path));
      if (kind === 'rootfs' || (kind === 'archive' && entry.type !== 'directory')) return kind;
      bytes += entry.size;
    }
    return 'rootfs';
  } catch {
    return 'damaged';
  } finally {
    await reader.close();
  }
}
