import type { Readable } from 'node:stream';
import type { ClientStream } from '../engine/rpc/client.ts';
import type { GuestExit } from './attach.ts';

/** The two ends of a transfer that are on this side. */
export interface TransferEnds {
  /** What the engine reads, as far as it gives credit */
  readonly input?: Readable;
  /** Takes what the engine sends; the next piece comes when it has settled */
  readonly output?: (chunk: Buffer) => Promise<void>;
  /** Called when the program is about to end in the middle of it */
  readonly onAbandoned?: () => void;
}

/** Carries data to or from the engine, with back-pressure, until it says that it is done. */
export async function carry(
  stream: ClientStream,
  { input, output }: Pick<TransferEnds, 'input' | 'output'>,
): Promise<GuestExit> {
  const failed = Promise.withResolvers<never>();
  let credit = 0;
  let creditCame: (() => void) | undefined;
  let pending = 0;
  let written: Promise<void> = Promise.resolve();
  let isOver = false;

  stream.onFrame(({ type, payload }) => {
    if (type === 'credit') {
      credit += Number(payload.toString());
      creditCame?.();
    } else if (type === 'stdout' && output) {
      pending++;
      stream.pause();
      written = written
        .then(() => output(payload))
        .then(() => {
          if (--pending === 0) stream.resume();
        });
      written.catch(failed.reject);
    }
  });

  const send = async (from: Readable): Promise<void> => {
    for await (const chunk of from as AsyncIterable<Buffer>) {
      for (let rest = chunk; rest.length > 0;) {
        while (credit <= 0 && !isOver) {
          const came = Promise.withResolvers<void>();
          creditCame = came.resolve;
          await came.promise;
        }
        if (isOver) return;
        const piece = rest.subarray(0, credit);
        credit -= piece.length;
        stream.send('stdin', piece);
        rest = rest.subarray(piece.length);
      }
    }
    stream.send('stdin-end');
  };
  // An input that breaks must not look like one that has ended.
  if (input) send(input).catch(failed.reject);

  try {
    const exit = await Promise.race([stream.ended, failed.promise]);
    await written;
    return exit;
  } finally {
    isOver = true;
    creditCame?.();
    input?.destroy();
    stream.close();
    // Whichever lost the race has nobody to tell.
    stream.ended.catch(() => undefined);
    failed.promise.catch(() => undefined);
  }
}
