import { ConnectionError } from './transport.ts';

/** How slow a download may be. */
export interface Pace {
  /** Averaged over a window: real lines are faster, whoever is slower holds a connection for the sake of it */
  readonly minBytesPerSecond: number;
  /** Length of a window */
  readonly windowMs: number;
  /** For an answer to a request to begin, with redirects and login on the way */
  readonly answerMs: number;
  /** Milliseconds, from any point on */
  readonly now: () => number;
}

export const defaultPace: Pace = {
  minBytesPerSecond: 1024,
  windowMs: 60_000,
  answerMs: 60_000,
  now: () => performance.now(),
};

/** A download that trickles. Not tried again by itself: it would go on like that for days. */
export class SlowDownloadError extends ConnectionError {
  constructor({ what, hint }: PacedDownload, { minBytesPerSecond, windowMs }: Pace) {
    super(
      `${what} comes too slowly: less than ${minBytesPerSecond} bytes a second for ${windowMs / 1000} s`,
      { isTransient: false, isTimeout: true, hint, cause: undefined },
    );
  }
}

/** What is downloaded, for errors. */
interface PacedDownload {
  readonly what: string;
  readonly hint: string;
}

/**
 * Measures how fast something comes from one source, in however many parts. Only the time that the source takes counts,
 * not that of a busy disk. A source that sends nothing at all is the transport's to end.
 */
export class DownloadPace {
  readonly #download: PacedDownload;
  readonly #pace: Pace;
  #waitedMs = 0;
  #bytes = 0;
  #isSlow = false;
  #brokeOffAt: number | undefined;

  constructor(download: PacedDownload, pace: Pace) {
    this.#download = download;
    this.#pace = pace;
  }

  /** Waits until a part begins to come. How long nobody answers at all is no pace, and not counted. */
  async opened<T>(opening: Promise<T>): Promise<T> {
    const since = this.#brokeOffAt ?? this.#pace.now();
    this.#brokeOffAt = undefined;
    const part = await opening;
    this.#waitedMs += this.#pace.now() - since;
    return part;
  }

  /** A part that brought something has ended too early. The time until the next one is the source's. */
  brokeOff(): void {
    this.#brokeOffAt = this.#pace.now();
  }

  /** Passes a part on until a window comes too slowly. */
  async *passed(body: AsyncIterable<Buffer>): AsyncGenerator<Buffer> {
    const { now, windowMs, minBytesPerSecond } = this.#pace;
    let since = now();
    for await (const chunk of body) {
      // Only now: the last chunk of a body may come late.
      if (this.#isSlow) throw new SlowDownloadError(this.#download, this.#pace);
      this.#waitedMs += now() - since;
      this.#bytes += chunk.length;
      yield chunk;
      if (this.#waitedMs >= windowMs) {
        this.#isSlow = this.#bytes < (minBytesPerSecond * this.#waitedMs) / 1000;
        this.#waitedMs = 0;
        this.#bytes = 0;
      }
      since = now();
    }
  }
}
