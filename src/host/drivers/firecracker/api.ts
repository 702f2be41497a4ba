import { request } from 'node:http';
import { abortError, BangerError, errnoOf } from '../../../errors.ts';
import { giveUpAfter } from '../../patience.ts';

/** Longest answer believed from Firecracker. */
const maxAnswerBytes = 1024 * 1024;
const defaultTimeoutMs = 10_000;
/** How an error begins that means that Firecracker is gone. */
export const endedWords = 'Firecracker has ended, and does not answer';

/** One change of a VM, as Firecracker's API takes it. */
export interface ApiRequest {
  readonly method: 'PUT' | 'PATCH';
  readonly path: string;
  readonly body: Readonly<Record<string, unknown>>;
}

/** What `GET /` tells. */
export interface InstanceInfo {
  readonly id: string;
  readonly state: 'Not started' | 'Running' | 'Paused';
  readonly version: string;
}

/**
 * Firecracker's API: HTTP on a Unix socket, one request at a time
 * (https://github.com/firecracker-microvm/firecracker/blob/main/src/firecracker/swagger/firecracker.yaml).
 *
 * A request that is refused throws `command_failed` with Firecracker's own words, one that is not answered in time
 * `timeout`, and one to a Firecracker that has ended or does not listen yet `command_failed` with what the socket said
 * as its cause.
 */
export class FirecrackerApi {
  readonly #socket: string;
  readonly #timeoutMs: number;

  constructor(socket: string, timeoutMs = defaultTimeoutMs) {
    this.#socket = socket;
    this.#timeoutMs = timeoutMs;
  }

  async send({ method, path, body }: ApiRequest, signal?: AbortSignal): Promise<void> {
    await this.#exchange(method, path, { body: JSON.stringify(body), timeoutMs: this.#timeoutMs, signal });
  }

  /** Throws `command_failed` for an answer that makes no sense. */
  async instance(timeoutMs = this.#timeoutMs): Promise<InstanceInfo> {
    const answer = await this.#get('/', timeoutMs);
    const { id, state, vmm_version: version } = answer;
    const isKnown = state === 'Not started' || state === 'Running' || state === 'Paused';
    if (typeof id === 'string' && typeof version === 'string' && isKnown) return { id, state, version };
    throw new BangerError('command_failed', `Firecracker says of itself: ${JSON.stringify(answer)}`);
  }

  async #get(path: string, timeoutMs: number): Promise<Readonly<Record<string, unknown>>> {
    const text = await this.#exchange('GET', path, { timeoutMs });
    const answer = parseObject(text);
    if (answer) return answer;
    throw new BangerError('command_failed', `Firecracker's answer to GET ${path} is no JSON object`);
  }

  /** Returns what a request that was granted is answered with. */
  #exchange(
    method: string,
    path: string,
    how: { readonly body?: string; readonly timeoutMs: number; readonly signal?: AbortSignal },
  ): Promise<string> {
    const { body, timeoutMs, signal } = how;
    return new Promise((resolve, reject) => {
      if (signal?.aborted) return reject(abortError(signal));
      const headers = body === undefined ? {} : { 'content-type': 'application/json' };
      const asking = request({ socketPath: this.#socket, method, path, headers, agent: false });
      const fail = (error: unknown): void => {
        settle();
        asking.destroy();
        reject(error instanceof Error ? explainSocketError(error, method, path) : new Error(String(error)));
      };
      const takeBack = giveUpAfter(timeoutMs, () =>
        fail(
          new BangerError('timeout', `Firecracker did not answer ${method} ${path} in ${timeoutMs / 1000} s`),
        ),
      );
      const cancel = (): void => fail(abortError(signal!));
      const settle = (): void => {
        takeBack();
        signal?.removeEventListener('abort', cancel);
      };
      signal?.addEventListener('abort', cancel, { once: true });
      // Errors may come twice, and late ones are nobody's any more.
      asking.on('error', fail);
      asking.once('response', (response) => {
        let text = '';
        response.setEncoding('utf8');
        response.on('data', (chunk: string) => {
          text += chunk;
          if (text.length > maxAnswerBytes) fail(new BangerError('command_failed', 'Firecracker talks on'));
        });
        response.once('error', fail);
        response.once('end', () => {
          settle();
          const status = response.statusCode ?? 0;
          if (status >= 200 && status < 300) resolve(text);
          else reject(refusal(`${method} ${path}`, status, text));
        });
      });
      asking.end(body);
    });
  }
}

function refusal(what: string, status: number, text: string): BangerError {
  const answer = parseObject(text);
  // The second is what is said to one connection too many.
  const words = answer?.['fault_message'] ?? answer?.['error'];
  const reason = typeof words === 'string' && words !== '' ? words : `status ${status}`;
  return new BangerError('command_failed', `Firecracker refuses ${what}: ${reason}`);
}

/** A Firecracker that ends while it is asked, or is not there. */
function explainSocketError(error: Error, method: string, path: string): Error {
  const errno = errnoOf(error);
  if (errno !== 'ECONNRESET' && errno !== 'EPIPE' && !isNobodyThere(error)) return error;
  return new BangerError('command_failed', `${endedWords} ${method} ${path}`, { cause: error });
}

function parseObject(text: string): Readonly<Record<string, unknown>> | undefined {
  try {
    const value: unknown = JSON.parse(text);
    return typeof value === 'object' && value !== null && !Array.isArray(value)
      ? (value as Readonly<Record<string, unknown>>)
      : undefined;
  } catch {
    return undefined;
  }
}

/** True for an error that comes of nobody listening on a socket, or not yet. */
export function isNobodyThere(error: unknown): boolean {
  const errno = errnoOf(error instanceof BangerError ? error.cause : error);
  return errno === 'ENOENT' || errno === 'ECONNREFUSED';
}
