import { setTimeout as sleep } from 'node:timers/promises';
import { abortError, BangerError, errorText } from '../../../errors.ts';
import type { RegistryConfig } from '../../../state/config.ts';
import type { Log } from '../../log.ts';
import { answerInTime } from './answer-in-time.ts';
import { bodyChunks } from './body-chunks.ts';
import type { FindCredentials } from './docker-auth.ts';
import type { Pace } from './download-pace.ts';
import { manifestMediaTypes, maxDocumentBytes, refused } from './manifest.ts';
import { readLimited } from './read-limited.ts';
import { canonicalName, familiarName, type Reference } from '../reference.ts';
import { authorize, type Access } from './registry-auth.ts';
import { endpointsOf, settleScheme, type Endpoint } from './registry-endpoint.ts';
import { statusError } from './registry-errors.ts';
import { checkForeignAddress, isLoopback, sameHost } from './registry-trust.ts';
import { digestOf } from './resolve-image.ts';
import { ConnectionError, connectionError, type HttpResponse, type Transport } from './transport.ts';

export interface RegistryOptions {
  readonly transport: Transport;
  readonly credentials: FindCredentials;
  readonly registries: Readonly<Record<string, RegistryConfig>>;
  readonly log: Log;
  /** First pause before another attempt; it doubles with each */
  readonly retryDelayMs: number;
  readonly pace: Pick<Pace, 'answerMs'>;
}

/** Part of a blob, or all of it. */
export interface BlobBody {
  readonly body: AsyncIterable<Buffer>;
  /** Offset of its first byte; 0 when the registry does not do ranges */
  readonly from: number;
  /** Takes a chunk back that is used up, in the order they came */
  readonly giveBack: (chunk: Buffer) => void;
  /** For what is wrong or too slow: true when there is another place to take it from */
  readonly giveUp: (why: string) => boolean;
}

interface Connection {
  readonly endpoint: Endpoint;
  /** The same before it was found out whether it speaks TLS */
  readonly configured: Endpoint;
  /** What the endpoint accepted last */
  access?: Access;
}

interface GetOptions {
  readonly path: string;
  readonly headers: Readonly<Record<string, string>>;
  readonly signal: AbortSignal;
}

const maxRetries = 3;
const maxRedirects = 5;
const maxRetryAfterMs = 10_000;
const documentTimeoutMs = 60_000;
const retryStatuses = [408, 429, 500, 502, 503, 504];

/** Pulls from one repository: tries its mirrors, then the registry, and remembers the login and what worked. */
export class Registry {
  readonly #options: RegistryOptions;
  readonly #reference: Reference;
  readonly #image: string;
  #endpoints: readonly Endpoint[];
  readonly #connections = new Map<Endpoint, Promise<Connection>>();

  constructor(reference: Reference, options: RegistryOptions) {
    this.#options = options;
    this.#reference = reference;
    this.#image = familiarName(canonicalName(reference));
    this.#endpoints = endpointsOf(reference.registry, options.registries);
  }

  /** Fetches a manifest or index by tag or digest, at most 4 MiB, and says what its digest is. */
  async manifest(tagOrDigest: string, signal: AbortSignal): Promise<{ bytes: Buffer; digest: string }> {
    return this.#tryEach(signal, async (connection) => {
      const { bytes, header } = await this.#document(connection, {
        path: `manifests/${tagOrDigest}`,
        headers: { accept: manifestMediaTypes.join(', ') },
        signal,
      });
      const digest = digestOf(bytes);
      const promised = tagOrDigest.startsWith('sha256:') ? tagOrDigest : header('docker-content-digest');
      if (promised?.startsWith('sha256:') && promised !== digest) {
        throw refused(
          this.#image,
          `its manifest should have digest ${promised.slice(0, 80)} and has ${digest}`,
          'Somebody between you and its author changed it, or the digest is wrong: check the digest, or try another registry',
        );
      }
      return { bytes, digest };
    });
  }

  /** Fetches a small blob, such as a config, at most 4 MiB. The caller checks its hash. */
  async smallBlob(digest: string, signal: AbortSignal): Promise<Buffer> {
    return this.#tryEach(signal, async (connection) => {
      return (await this.#document(connection, { path: `blobs/${digest}`, headers: {}, signal })).bytes;
    });
  }

  /** Opens a blob from an offset on. Registries that do not do ranges give all of it. */
  async blob(digest: string, from: number, signal: AbortSignal): Promise<BlobBody> {
    return this.#tryEach(signal, async (connection) => {
      const headers: Record<string, string> = from > 0 ? { range: `bytes=${from}-` } : {};
      const response = await this.#get(connection, { path: `blobs/${digest}`, headers, signal });
      const body = guarded(response, connection.endpoint.name, signal);
      const giveUp = (why: string): boolean => this.#giveUpMirror(connection, why);
      if (response.status === 200) return { body, from: 0, giveBack: response.giveBack, giveUp };
      const start = /^bytes (\d+)-/.exec(response.header('content-range') ?? '')?.[1];
      if (response.status === 206 && Number(start) === from)
        return { body, from, giveBack: response.giveBack, giveUp };
      await response.discard();
      // A range that cannot be had is no failure of the blob: begin again.
      if (from > 0 && [206, 416].includes(response.status)) return this.blob(digest, 0, signal);
      throw this.#statusError(connection, response.status);
    });
  }

  /** Asks a mirror no more because of what it sends; false when this is the registry itself. */
  #giveUpMirror({ configured }: Connection, why: string): boolean {
    if (!configured.isMirror) return false;
    // Another download may have given it up already.
    if (!this.#endpoints.includes(configured)) return true;
    this.#endpoints = this.#endpoints.filter((other) => other !== configured);
    this.#options.log('warn', 'mirror given up', { mirror: configured.name, image: this.#image, why });
    return true;
  }

  async #tryEach<T>(signal: AbortSignal, attempt: (connection: Connection) => Promise<T>): Promise<T> {
    for (const endpoint of this.#endpoints) {
      try {
        return await attempt(await this.#connect(endpoint, signal));
      } catch (error) {
        if (signal.aborted) throw abortError(signal);
        if (!endpoint.isMirror || !(error instanceof BangerError)) throw error;
        this.#options.log('warn', 'mirror did not help', {
          mirror: endpoint.name,
          image: this.#image,
          error: errorText(error),
        });
        // Not asked again for the rest of this pull. Another request may have found out first.
        this.#endpoints = this.#endpoints.filter((other) => other !== endpoint);
      }
    }
    throw new BangerError('internal', `No endpoint for "${this.#image}"`);
  }

  async #connect(endpoint: Endpoint, signal: AbortSignal): Promise<Connection> {
    const known = this.#connections.get(endpoint);
    if (known) return known;
    const connecting = settleScheme(endpoint, this.#options, signal).then((settled) => ({
      endpoint: settled,
      configured: endpoint,
    }));
    this.#connections.set(endpoint, connecting);
    connecting.catch(() => this.#connections.delete(endpoint));
    return connecting;
  }

  /** Fetches something small as a whole; the time limit is for those who send a byte now and then. */
  async #document(
    connection: Connection,
    options: GetOptions,
  ): Promise<{ bytes: Buffer; header: HttpResponse['header'] }> {
    const { name } = connection.endpoint;
    const late = new AbortController();
    const timer = setTimeout(() => {
      const what = `Registry "${name}" did not send a manifest within ${documentTimeoutMs / 1000} s`;
      late.abort(new BangerError('timeout', what, { hint: 'Check the network, then try again' }));
    }, documentTimeoutMs);
    const signal = AbortSignal.any([options.signal, late.signal]);
    try {
      const response = await this.#get(connection, { ...options, signal });
      if (response.status !== 200) {
        await response.discard();
        throw this.#statusError(connection, response.status);
      }
      const bytes = await readLimited(response.body, maxDocumentBytes);
      if (!bytes) throw refused(this.#image, 'its manifest or config is larger than 4 MiB');
      return { bytes, header: response.header };
    } catch (error) {
      throw connectionError(error, name, signal);
    } finally {
      clearTimeout(timer);
    }
  }

  /** One GET with everything around it: login, redirects, and further attempts while that makes sense. */
  async #get(connection: Connection, options: GetOptions): Promise<HttpResponse> {
    for (let attempt = 0; ; attempt++) {
      let delayMs = this.#options.retryDelayMs * 2 ** attempt;
      try {
        const asked = {
          host: connection.endpoint.name,
          answerMs: this.#options.pace.answerMs,
          signal: options.signal,
        };
        const response = await answerInTime(asked, (signal) =>
          this.#getOnce(connection, { ...options, signal }),
        );
        const isLast = attempt === maxRetries || !retryStatuses.includes(response.status);
        const wantedMs = retryAfterMs(response.header('retry-after'));
        if (isLast || (wantedMs ?? 0) > maxRetryAfterMs) return response;
        await response.discard();
        delayMs = wantedMs ?? delayMs;
      } catch (error) {
        const failure = connectionError(error, connection.endpoint.name, options.signal);
        const isWorthIt = failure instanceof ConnectionError && failure.isTransient;
        // Silence has cost half a minute already.
        const isLast = attempt === (isWorthIt && failure.code === 'timeout' ? 1 : maxRetries);
        if (!isWorthIt || isLast) throw failure;
      }
      await sleep(delayMs, undefined, { signal: options.signal }).catch(() => {
        throw abortError(options.signal);
      });
    }
  }

  async #getOnce(connection: Connection, options: GetOptions): Promise<HttpResponse> {
    const { base, isInsecure } = connection.endpoint;
    let url = new URL(`${base.href.replace(/\/$/, '')}/v2/${this.#reference.repository}/${options.path}`);
    let wasChallenged = false;
    for (let redirects = 0; redirects <= maxRedirects;) {
      const isOwn = sameHost(url, base) && (url.protocol === base.protocol || url.protocol === 'https:');
      const headers: Record<string, string> = { ...options.headers };
      if (isOwn && connection.access) headers['authorization'] = connection.access.authorization;
      const response = await this.#options.transport(url, {
        headers,
        signal: options.signal,
        isInsecure: isInsecure && (isOwn || isLoopback(url.hostname)),
      });
      if ([301, 302, 303, 307, 308].includes(response.status)) {
        await response.discard();
        url = nextAddress(response.header('location'), url, base);
        redirects++;
      } else if (response.status === 401 && isOwn && !wasChallenged) {
        await response.discard();
        wasChallenged = true;
        connection.access = await this.#authorize(connection, response, options.signal);
      } else {
        return response;
      }
    }
    throw new BangerError('command_failed', `Registry "${connection.endpoint.name}" redirects in circles`);
  }

  async #authorize({ endpoint }: Connection, response: HttpResponse, signal: AbortSignal): Promise<Access> {
    return authorize(response.header('www-authenticate'), {
      registry: endpoint.base,
      name: endpoint.name,
      repository: this.#reference.repository,
      credentials: await this.#options.credentials(endpoint.name, signal),
      isInsecure: endpoint.isInsecure,
      signal,
      send: this.#options.transport,
    });
  }

  #statusError({ endpoint, access }: Connection, status: number): BangerError {
    return statusError(status, {
      registry: endpoint.name,
      repository: this.#reference.repository,
      image: this.#image,
      hadCredentials: access?.hasLogin ?? false,
      wasAccepted: access ? access.hasLogin && access.isToken : false,
      withheldFrom: access?.withheldFrom,
    });
  }
}

function nextAddress(location: string | undefined, from: URL, registry: URL): URL {
  const next = URL.parse(location ?? '', from.href);
  if (!next || !location) {
    throw new BangerError('command_failed', `Registry "${registry.host}" redirects to nowhere`);
  }
  if (!sameHost(next, registry) || next.protocol !== registry.protocol) checkForeignAddress(next, registry);
  return next;
}

/** The header's two forms, seconds and a date, as milliseconds from now. */
function retryAfterMs(header: string | undefined): number | undefined {
  if (header === undefined) return undefined;
  const ms = /^\d+$/.test(header) ? Number(header) * 1000 : Date.parse(header) - Date.now();
  return Number.isNaN(ms) ? undefined : Math.max(0, ms);
}

/** A body whose errors name the registry. */
async function* guarded(response: HttpResponse, host: string, signal: AbortSignal): AsyncGenerator<Buffer> {
  try {
    yield* bodyChunks(response.body);
  } catch (error) {
    throw connectionError(error, host, signal);
  }
}
