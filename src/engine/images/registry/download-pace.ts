import { ConnectionError } from './transport.ts';

/** How slow a download may be. */
export interface Pace {
  /** Averaged over a window: real lines are faster, whoever is slower holds a connection for the sake of it */
  readonly minBytesPerSecond: number;
  /** Length of a window */
  readonly windowMs: number;
  /** Milliseconds, from any point on */
  readonly now: () => number;
}

export const defaultPace: Pace = {
  minBytesPerSecond: 1024,
  windowMs: 60_000,
  now: () => performance.now(),
};

/** A download that trickles. Not tried again by itself: it would go on like that for days. */
export class SlowDownloadError extends ConnectionError {
  constructor(what: string, { minBytesPerSecond, windowMs }: Pace) {
    super(
      `${what} comes too slowly: less than ${minBytesPerSecond} bytes a second for ${windowMs / 1000} s`,
      {
        isTransient: false,
        isTimeout: true,
        hint: 'Try again, or through a mirror; the download goes on where it stopped',
        cause: undefined,
      },
    );
  }
}

/**
 * Passes a body on until a window of it comes too slowly. Only the time that the source takes counts, not that of a
 * busy disk. A source that sends nothing at all is the transport's to end.
 */
export async function* paced(body: AsyncIterable<Buffer>, what: string, pace: Pace): AsyncGenerator<Buffer> {
  let waitedMs = 0;
  let bytes = 0;
  let isSlow = false;
  let since = pace.now();
  for await (const chunk of body) {
    // Only now: the last chunk of a body may come late.
    if (isSlow) throw new SlowDownloadError(what, pace);
    waitedMs += pace.now() - since;
    bytes += chunk.length;
    yield chunk;
    if (waitedMs >= pace.windowMs) {
      isSlow = bytes < (pace.minBytesPerSecond * waitedMs) / 1000;
      waitedMs = 0;
      bytes = 0;
    }
    since = pace.now();
  }
}
