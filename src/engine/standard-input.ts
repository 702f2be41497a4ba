import { PassThrough, type Readable } from 'node:stream';
import { abortError } from '../errors.ts';
import type { EngineStream } from './rpc/frame-stream.ts';

/** How far a client may send ahead of what has been taken. */
const windowBytes = 1024 * 1024;

/** A client's standard input as a stream. It ends only when the client says so, not when the client is gone. */
export async function standardInput(stream: EngineStream, signal: AbortSignal): Promise<Readable> {
  const input = new PassThrough({ highWaterMark: windowBytes });
  // Whoever reads it hears of it. While nobody does yet, it must not end the engine.
  input.on('error', () => undefined);
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

/** The same stream, telling how many bytes have passed. */
export async function* counted(
  chunks: AsyncIterable<Buffer>,
  tell: (done: number) => void,
): AsyncGenerator<Buffer> {
  let done = 0;
  for await (const chunk of chunks) {
    done += chunk.length;
    tell(done);
    yield chunk;
  }
}

async function drained(input: PassThrough): Promise<void> {
  if (input.destroyed) return;
  const { promise, resolve } = Promise.withResolvers<void>();
  input.once('drain', resolve).once('close', resolve);
  await promise;
  input.off('drain', resolve).off('close', resolve);
}
