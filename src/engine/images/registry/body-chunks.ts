import { finished, type Readable } from 'node:stream';

/**
 * The chunks of a stream as they came; leaving the loop destroys the stream.
 *
 * `for await` over the stream itself copies all that waits into one new buffer, and it is not one that whoever sent
 * the chunks could have back.
 */
export async function* bodyChunks(stream: Readable): AsyncGenerator<Buffer> {
  let next: Buffer | undefined;
  let end: { readonly error: unknown } | undefined;
  let wake: () => void = () => undefined;
  stream.on('data', (chunk: Buffer) => {
    next = chunk;
    stream.pause();
    wake();
  });
  // It listens on: what the stream says when it is destroyed must not be an error that nobody heard.
  finished(stream, { writable: false }, (error) => {
    end = { error };
    wake();
  });
  try {
    for (;;) {
      if (next) {
        const chunk = next;
        next = undefined;
        yield chunk;
      } else if (end) {
        if (end.error) throw end.error;
        return;
      } else {
        const { promise, resolve } = Promise.withResolvers<void>();
        wake = resolve;
        stream.resume();
        await promise;
      }
    }
  } finally {
    stream.destroy();
  }
}
