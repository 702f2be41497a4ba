import { createHash } from 'node:crypto';
import { open } from 'node:fs/promises';
import { setTimeout as sleep } from 'node:timers/promises';
import { abortError, BangerError } from '../../../errors.ts';
import type { Operation } from '../../operations.ts';
import { answerInTime } from '../registry/answer-in-time.ts';
import { bodyChunks } from '../registry/body-chunks.ts';
import { DownloadPace, type Pace } from '../registry/download-pace.ts';
import { checkForeignAddress, isLoopback } from '../registry/registry-trust.ts';
import {
  connectionError,
  ConnectionError,
  type HttpResponse,
  type Transport,
} from '../registry/transport.ts';
import { shownUrl, type Download } from './download.ts';

const maxRedirects = 5;
/** Attempts in a row, none of which brought a byte, before a download is given up */
const maxFruitlessAttempts = 3;
/** What a server says that may well answer a moment later. */
const passingStatuses = [429, 502, 503, 504];

interface FileTools {
  readonly transport: Transport;
  readonly retryDelayMs: number;
  readonly pace: Pace;
}

/**
 * Fetches a file to a path that must not exist yet. A connection that breaks is taken up where it broke, if the server
 * can; what came in the end must have the hash.
 */
export async function downloadFile(
  download: Download,
  { path, transport, retryDelayMs, pace: wanted }: FileTools & { readonly path: string },
  operation: Pick<Operation, 'signal' | 'progress'>,
): Promise<void> {
  const file = await open(path, 'wx', 0o600);
  try {
    let hash = createHash('sha256');
    let done = 0;
    const what = `The file at "${shownUrl(download.url)}"`;
    const hint = `Try again, or fetch it another way, then: ${download.use.useFile}`;
    const pace = new DownloadPace({ what, hint }, wanted);
    for (let fruitless = 0; ;) {
      const before = done;
      try {
        const asked = { host: download.url.host, answerMs: wanted.answerMs, signal: operation.signal };
        const response = await pace.opened(
          answerInTime(asked, (signal) => request(download.url, { done, signal, transport })),
        );
        if (response.status !== 206) {
          hash = createHash('sha256');
          done = 0;
        }
        const left = Number(response.header('content-length') ?? NaN);
        const total = Number.isSafeInteger(left) ? done + left : undefined;
        for await (const chunk of pace.passed(bodyChunks(response.body))) {
          if (done + chunk.length > download.use.maxBytes) throw tooLarge(download);
          // On a disk that is nearly full, less than all of it is no error.
          for (let put = 0; put < chunk.length;)
            put += (await file.write(chunk, put, chunk.length - put, done + put)).bytesWritten;
          hash.update(chunk);
          done += chunk.length;
          response.giveBack(chunk);
          operation.progress({ done, total, unit: 'bytes' });
        }
        break;
      } catch (error) {
        const known = aboutServer(connectionError(error, download.url.host, operation.signal), download);
        if (done > before) pace.brokeOff();
        fruitless = done > before ? 1 : fruitless + 1;
        const mayTryAgain =
          known instanceof ConnectionError && known.isTransient && fruitless < maxFruitlessAttempts;
        if (operation.signal.aborted || !mayTryAgain) throw known;
        await sleep(retryDelayMs * 2 ** fruitless, undefined, { signal: operation.signal }).catch(() => {
          throw abortError(operation.signal);
        });
      }
    }
    await file.truncate(done);
    checkHash(download, hash.digest('hex'));
  } finally {
    await file.close();
  }
}

/** Follows redirects, but never to places that only this machine can reach. */
async function request(
  start: URL,
  options: { readonly done: number; readonly signal: AbortSignal; readonly transport: Transport },
): Promise<HttpResponse> {
  const { done, signal, transport } = options;
  let url = start;
  for (let redirects = 0; redirects <= maxRedirects; redirects++) {
    const headers: Record<string, string> = done > 0 ? { range: `bytes=${done}-` } : {};
    const response = await transport(url, { headers, signal, isInsecure: isLoopback(url.hostname) });
    if (response.status === 200 || (response.status === 206 && startsAt(response, done))) return response;
    await response.discard();
    if (passingStatuses.includes(response.status))
      throw new ConnectionError(`"${url.host}" answered ${response.status} for "${url.pathname}"`, {
        isTransient: true,
        hint: 'Try again in a while',
        cause: undefined,
      });
    const location = response.header('location');
    if (response.status < 300 || response.status > 399 || location === undefined)
      throw new BangerError(
        'command_failed',
        `"${url.host}" answered ${response.status} for "${url.pathname}"`,
        {
          hint: 'Check the address; a file that was replaced by a newer one has another',
        },
      );
    const next = URL.parse(location, url.href);
    if (!next)
      throw new BangerError('command_failed', `"${url.host}" redirects to something that is no address`);
    if (next.host !== url.host || next.protocol !== url.protocol) checkForeignAddress(next, start);
    url = next;
  }
  throw new BangerError('command_failed', `"${start.host}" redirects more than ${maxRedirects} times`);
}

function startsAt(response: HttpResponse, offset: number): boolean {
  return response.header('content-range')?.startsWith(`bytes ${offset}-`) ?? false;
}

function checkHash({ url, sha256 }: Download, found: string): void {
  if (found === sha256) return;
  throw new BangerError(
    'command_failed',
    `The file at "${shownUrl(url)}" has the SHA-256 ${found}, not ${sha256}`,
    {
      hint: 'Nothing of it was used. Compare with what its makers announce, and correct the hash if it was replaced',
    },
  );
}

function tooLarge({ url, use }: Download): BangerError {
  return new BangerError(
    'command_failed',
    `The file at "${shownUrl(url)}" has more than ${use.maxBytes} bytes`,
  );
}

/** The transport speaks of registries, which this is not. */
function aboutServer(error: unknown, { url, use }: Download): unknown {
  if (!(error instanceof BangerError)) return error;
  const message = error.message.replace(/\b[Rr]egistry "/, (word) =>
    word.startsWith('R') ? 'Server "' : 'server "',
  );
  const hint = 'Check the network and the address, then try again';
  if (error instanceof ConnectionError)
    return new ConnectionError(message, {
      isTransient: error.isTransient,
      isTimeout: error.code === 'timeout',
      hint: error.hint?.includes('registry') ? hint : error.hint,
      cause: error,
    });
  if (message === error.message) return error;
  return new BangerError(error.code, message, {
    hint: `Fetch it from "${url.host}" another way, then: ${use.useFile}`,
  });
}
