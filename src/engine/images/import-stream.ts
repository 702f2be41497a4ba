import { createWriteStream } from 'node:fs';
import { join } from 'node:path';
import { PassThrough, type Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { abortError, BangerError } from '../../errors.ts';
import type { Image } from '../../state/images.ts';
import type { Operation } from '../operations.ts';
import type { EngineStream } from '../rpc/frame-stream.ts';
import { noSpace, withStaging } from './image-staging.ts';
import type { ImagesContext } from './image-services.ts';
import { importImage } from './import-image.ts';
import { newName } from './new-name.ts';

/** How far a client may send ahead of what has been written. */
const windowBytes = 1024 * 1024;

/**
 * Makes an image of what a client sends as standard input. All of it is written down first: an archive of layers is
 * read in another order than it comes. A client that goes in the middle leaves nothing.
 */
export async function importStream(
  context: ImagesContext,
  name: string,
  { operation, stream }: { readonly operation: Operation; readonly stream: EngineStream },
): Promise<Image> {
  // Before a byte is sent.
  newName(name);
  return withStaging(context.layout, async (directory) => {
    const path = join(directory, 'input');
    operation.enter('Receiving archive');
    try {
      let done = 0;
      await pipeline(
        await standardInput(stream, operation.signal),
        async function* (chunks: AsyncIterable<Buffer>) {
          for await (const chunk of chunks) {
            done += chunk.length;
            operation.progress({ done, unit: 'bytes' });
            yield chunk;
          }
        },
        createWriteStream(path, { mode: 0o600, flags: 'wx' }),
        { signal: operation.signal },
      );
    } catch (error) {
      if (operation.signal.aborted) throw abortError(operation.signal);
      if (error instanceof Error && 'code' in error && error.code === 'ENOSPC')
        throw noSpace(directory, error);
      throw error;
    }
    try {
      return await importImage(context, { path, name }, operation);
    } catch (error) {
      throw aboutInput(error, path);
    }
  });
}

/** A client's standard input as a stream. It ends only when the client says so, not when the client is gone. */
async function standardInput(stream: EngineStream, signal: AbortSignal): Promise<Readable> {
  const input = new PassThrough({ highWaterMark: windowBytes });
  signal.addEventListener('abort', () => input.destroy(abortError(signal)), { once: true });
  if (signal.aborted) input.destroy(abortError(signal));
  stream.onFrame(async (frame) => {
    if (input.destroyed) return;
    if (frame.type === 'stdin-end') return void input.end();
    if (frame.type !== 'stdin') return;
    if (!input.write(frame.payload)) await drained(input);
    await stream.send('credit', String(frame.payload.length));
  });
  await stream.send('credit', String(windowBytes));
  return input;
}

async function drained(input: PassThrough): Promise<void> {
  if (input.destroyed) return;
  const { promise, resolve } = Promise.withResolvers<void>();
  input.once('drain', resolve).once('close', resolve);
  await promise;
  input.off('drain', resolve).off('close', resolve);
}

/** Where it was written down means nothing to the user. */
function aboutInput(error: unknown, path: string): unknown {
  if (!(error instanceof BangerError)) return error;
  const said = (text: string): string => text.replaceAll(path, 'standard input');
  return new BangerError(error.code, said(error.message), {
    hint: error.hint === undefined ? undefined : said(error.hint),
    cause: error,
  });
}
