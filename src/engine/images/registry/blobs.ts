import { createHash, type Hash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { mkdir, open, rename, rm, stat, type FileHandle } from 'node:fs/promises';
import { setTimeout as sleep } from 'node:timers/promises';
import { abortError, BangerError, errnoOf } from '../../../errors.ts';
import { syncDirectory } from '../../../host/files.ts';
import { failpoint } from '../../failpoints.ts';
import { blobPath, partialBlobPath } from './blob-files.ts';
import { DownloadPace, SlowDownloadError, type Pace } from './download-pace.ts';
import type { Descriptor } from './manifest.ts';
import { PieceWriter } from './piece-writer.ts';
import type { BlobBody } from './registry.ts';
import { hexOf } from './resolve-image.ts';
import { ConnectionError } from './transport.ts';

export interface BlobRequest {
  /** Cache directory */
  readonly directory: string;
  readonly blob: Descriptor;
  /** Opens the blob where it comes from, from an offset on or from the start */
  readonly source: (from: number, signal: AbortSignal) => Promise<BlobBody>;
  readonly signal: AbortSignal;
  readonly retryDelayMs: number;
  readonly pace: Pace;
  /**
   * `done` bytes of the blob have been looked at, or have come, by now. While it is downloading they can be read in
   * the partial file; a download that begins again is told with 0 before it writes anything.
   */
  readonly onProgress?: (state: BlobState, done: number) => void;
  /** Told of the points at which tests have an engine die; absent: `failpoint` */
  readonly reached?: (point: string) => Promise<void>;
}

export type BlobState = 'verifying' | 'cached' | 'downloading' | 'downloaded';

/** Breaks in a row, none of which brought a byte, before a download is given up. */
const maxFruitlessAttempts = 3;

/**
 * Makes a blob present in the cache and returns its path.
 *
 * What is at that path has the right hash: a cached blob is read and hashed again, a download gets its name last.
 * A download that stopped halfway goes on where it was. At most one download of a blob may run at a time.
 */
export async function ensureBlob(request: BlobRequest): Promise<string> {
  const { directory, blob, reached = failpoint } = request;
  await mkdir(directory, { recursive: true, mode: 0o700 });
  const path = blobPath(directory, blob.digest);
  if (await isIntact(path, request)) {
    request.onProgress?.('cached', blob.size);
    return path;
  }
  const partial = partialBlobPath(directory, blob.digest);
  const file = await openForUpdate(partial);
  try {
    await download(file, request);
    await file.sync();
  } catch (error) {
    // A wrong hash leaves nothing to go on with; an interruption does.
    if (error instanceof WrongBlobError) await rm(partial, { force: true });
    throw error;
  } finally {
    await file.close();
  }
  await reached('blob complete');
  await rename(partial, path);
  await reached('blob in place');
  await syncDirectory(directory);
  request.onProgress?.('downloaded', blob.size);
  return path;
}

class WrongBlobError extends BangerError {
  constructor(what: string) {
    super('command_failed', what, {
      hint: 'The registry or something on the way changes content. Try again, or another registry',
    });
  }
}

async function isIntact(path: string, { blob, signal, onProgress }: BlobRequest): Promise<boolean> {
  const size = await stat(path).then(
    (found) => found.size,
    (error: unknown) => {
      if (errnoOf(error) === 'ENOENT') return -1;
      throw error;
    },
  );
  if (size !== blob.size) return false;
  const hash = createHash('sha256');
  let done = 0;
  for await (const chunk of createReadStream(path, { highWaterMark: 1 << 20 }) as AsyncIterable<Buffer>) {
    if (signal.aborted) throw abortError(signal);
    hash.update(chunk);
    onProgress?.('verifying', (done += chunk.length));
  }
  return hash.digest('hex') === hexOf(blob.digest);
}

async function download(file: FileHandle, request: BlobRequest): Promise<void> {
  const { blob, signal } = request;
  let progress = await resume(file, blob.size);
  // Parts that came at different times may be of different content, and another place may have the right one.
  let isPatched = progress.offset > 0;
  let wasRestarted = false;
  const restart = async (): Promise<void> => {
    progress = await startOver(file);
    isPatched = false;
    // Also when more comes at once than there was: what is there from now on is something else.
    request.onProgress?.('downloading', 0);
  };
  let pace = newPace(request);
  for (let fruitless = 0; ;) {
    const before = progress.offset;
    let part: BlobBody | undefined;
    try {
      request.onProgress?.('downloading', progress.offset);
      if (progress.offset < blob.size || blob.size === 0) {
        part = await pace.opened(request.source(progress.offset, signal));
        if (part.from !== progress.offset) await restart();
        await receive(file, { ...part, body: pace.passed(part.body) }, progress, request);
      }
      const digest = `sha256:${progress.hash.copy().digest('hex')}`;
      if (digest === blob.digest) return;
      if (!isPatched || wasRestarted) {
        throw new WrongBlobError(`Blob ${blob.digest} arrived with digest ${digest}`);
      }
      await restart();
      wasRestarted = true;
    } catch (error) {
      if (error instanceof WrongBlobError && part?.giveUp('wrong content')) {
        await restart();
        continue;
      }
      isPatched = progress.offset > 0;
      if (error instanceof SlowDownloadError && part?.giveUp('too slow')) {
        pace = newPace(request);
        continue;
      }
      if (!(error instanceof ConnectionError && error.isTransient)) throw error;
      if (progress.offset > before) pace.brokeOff();
      fruitless = progress.offset > before ? 1 : fruitless + 1;
      if (fruitless === maxFruitlessAttempts) throw error;
      await sleep(request.retryDelayMs * 2 ** fruitless, undefined, { signal }).catch(() => {
        throw abortError(signal);
      });
    }
  }
}

function newPace({ blob, pace }: BlobRequest): DownloadPace {
  const hint = 'Try again, or through a mirror; the download goes on where it stopped';
  return new DownloadPace({ what: `Blob ${blob.digest}`, hint }, pace);
}

interface DownloadProgress {
  hash: Hash;
  offset: number;
}

async function receive(
  file: FileHandle,
  part: BlobBody,
  progress: DownloadProgress,
  { blob, onProgress, reached = failpoint }: BlobRequest,
): Promise<void> {
  const writer = new PieceWriter(file, progress.offset, async (end) => {
    progress.offset = end;
    await reached('blob grown');
    onProgress?.('downloading', end);
  });
  let received = progress.offset;
  try {
    for await (const chunk of part.body) {
      if (received + chunk.length > blob.size) {
        throw new WrongBlobError(`Blob ${blob.digest} is larger than the ${blob.size} bytes it should have`);
      }
      progress.hash.update(chunk);
      received += chunk.length;
      await writer.add(chunk);
      part.giveBack(chunk);
    }
  } finally {
    // What has come is gone on with, whatever went wrong then.
    await writer.flush();
  }
  if (progress.offset === blob.size) return;
  throw new ConnectionError(`Blob ${blob.digest} ended after ${progress.offset} of ${blob.size} bytes`, {
    isTransient: true,
    hint: 'Try again; the download goes on where it stopped',
    cause: undefined,
  });
}

/** Takes up what an earlier attempt left, hashing it again. */
async function resume(file: FileHandle, size: number): Promise<DownloadProgress> {
  const progress: DownloadProgress = { hash: createHash('sha256'), offset: 0 };
  const left = (await file.stat()).size;
  if (left > size) return startOver(file);
  const buffer = Buffer.allocUnsafe(1 << 20);
  while (progress.offset < left) {
    const { bytesRead } = await file.read(buffer, 0, buffer.length, progress.offset);
    if (bytesRead === 0) break;
    progress.hash.update(buffer.subarray(0, bytesRead));
    progress.offset += bytesRead;
  }
  return progress;
}

async function startOver(file: FileHandle): Promise<DownloadProgress> {
  await file.truncate(0);
  return { hash: createHash('sha256'), offset: 0 };
}

/** Opens for reading and writing anywhere, keeping what is there. */
async function openForUpdate(path: string): Promise<FileHandle> {
  try {
    return await open(path, 'r+');
  } catch (error) {
    if (errnoOf(error) !== 'ENOENT') throw error;
    return open(path, 'wx+', 0o600);
  }
}
