import { createWriteStream } from 'node:fs';
import { join } from 'node:path';
import { pipeline } from 'node:stream/promises';
import { abortError, BangerError } from '../../errors.ts';
import type { Image } from '../../state/images.ts';
import type { Operation } from '../operations.ts';
import type { EngineStream } from '../rpc/frame-stream.ts';
import { counted, standardInput } from '../standard-input.ts';
import { noSpace, withStaging } from './image-staging.ts';
import type { ImagesContext } from './image-services.ts';
import { emptySource, importImage, type ImageImport } from './import-image.ts';
import { HostRoom } from './layers/host-room.ts';
import { newName } from './new-name.ts';

/**
 * Makes an image of what a client sends as standard input. All of it is written down first: an archive of layers is
 * read in another order than it comes. A client that goes in the middle leaves nothing.
 */
export async function importStream(
  context: ImagesContext,
  { name, ref }: Omit<ImageImport, 'path'>,
  { operation, stream }: { readonly operation: Operation; readonly stream: EngineStream },
): Promise<Image> {
  // Before a byte is sent.
  newName(name);
  return withStaging(context.layout, async (directory) => {
    const path = join(directory, 'input');
    operation.enter('Receiving archive');
    let receivedBytes = 0;
    try {
      await pipeline(
        withRoom(
          new HostRoom(directory),
          counted(await standardInput(stream, operation.signal), (done) => {
            receivedBytes = done;
            operation.progress({ done, unit: 'bytes' });
          }),
        ),
        createWriteStream(path, { mode: 0o600, flags: 'wx' }),
        { signal: operation.signal },
      );
    } catch (error) {
      if (operation.signal.aborted) throw abortError(operation.signal);
      if (error instanceof Error && 'code' in error && error.code === 'ENOSPC')
        throw noSpace(directory, error);
      throw error;
    }
    if (receivedBytes === 0) throw emptySource('Standard input was empty');
    try {
      return await importImage(context, { path, name, ref }, operation);
    } catch (error) {
      throw aboutInput(error, path);
    }
  });
}

/** Passes on what there is room for on the host, which VMs write to as well. */
async function* withRoom(room: HostRoom, chunks: AsyncIterable<Buffer>): AsyncGenerator<Buffer> {
  let bytes = 0;
  for await (const chunk of chunks) {
    bytes += chunk.length;
    await room.reach(bytes);
    yield chunk;
  }
}

/** Where it was written down means nothing to the user. */
function aboutInput(error: unknown, path: string): unknown {
  if (!(error instanceof BangerError)) return error;
  const said = (text: string): string =>
    text
      .replaceAll(`import ${path}`, 'import -')
      .replaceAll(`"${path}"`, 'standard input')
      .replaceAll(path, 'standard input');
  return new BangerError(error.code, said(error.message), {
    hint: error.hint === undefined ? undefined : said(error.hint),
    cause: error,
  });
}
