import { existsSync, readFileSync } from 'node:fs';
import {
  createSecureContext,
  getCACertificates,
  type ConnectionOptions,
  type SecureContextOptions,
} from 'node:tls';
import type { Readable } from 'node:stream';
import type { Dispatcher } from 'undici';
import { loadUndici } from './load-undici.ts';
import { abortError, BangerError, errnoOf, errorText } from '../../../errors.ts';
import type { FindCertificates, HostCertificates } from './host-certificates.ts';
import { proxyFor } from './proxy-choice.ts';
import { ReadBuffers } from './read-buffers.ts';

export interface HttpRequest {
  readonly method?: 'GET' | 'POST';
  readonly headers: Readonly<Record<string, string>>;
  readonly body?: string;
  readonly signal: AbortSignal;
  /** Take any certificate of it: for registries on loopback, or marked insecure */
  readonly isInsecure: boolean;
}

export interface HttpResponse {
  readonly status: number;
  /** One header, by its lowercase name; repeated ones joined with commas */
  readonly header: (name: string) => string | undefined;
  readonly body: Readable;
  /** Takes a chunk of the body back that is used up, and so are all before it: its memory is that of a later one */
  readonly giveBack: (chunk: Buffer) => void;
  /** Gives up the body, so that the connection can be used again */
  readonly discard: () => Promise<void>;
}

/** Speaks HTTP, follows nothing, retries nothing. Errors are those of `connectionError`. */
export type Transport = (url: URL, request: HttpRequest) => Promise<HttpResponse>;

const connectTimeoutMs = 10_000;
const idleTimeoutMs = 30_000;
/** A body that nobody wants is read for the sake of its connection, which a slow one is not worth. */
const discarded = { limit: 64 * 1024, timeoutMs: 1000 };

export interface TransportInput {
  /** Proxies, and `SSL_CERT_FILE` */
  readonly env: Readonly<Record<string, string | undefined>>;
  readonly certificates: FindCertificates;
}

/**
 * Makes a transport that goes through the proxy of the environment, and trusts the host's certificates besides those
 * that Node brings, as companies put their own there.
 */
export function createTransport({ env, certificates }: TransportInput): Transport {
  // Loaded and made on first use: most engines never pull.
  const dispatchers = new Map<string, Promise<Dispatcher>>();
  const buffers = new ReadBuffers();
  const dispatcherFor = (url: URL, isInsecure: boolean): Promise<Dispatcher> => {
    const own = certificates(url.host);
    const proxy = proxyFor(url, env);
    const key = `${isInsecure} ${proxy?.href ?? ''} ${own ? `${url.host} ${own.version}` : ''}`;
    const known = dispatchers.get(key);
    if (known) return known;
    const tls = isInsecure ? insecureTls(own) : verifiedTls(env, own);
    // The proxy is not the registry: nobody said that its certificate does not matter.
    const made = proxy ? dispatcherBehind(proxy, tls, verifiedTls(env, own)) : directDispatcher(buffers, tls);
    dispatchers.set(key, made);
    made.catch(() => dispatchers.delete(key));
    return made;
  };

  return async (url, request) => {
    try {
      const dispatcher = await dispatcherFor(url, request.isInsecure);
      const response = await dispatcher.request({
        origin: url.origin,
        path: url.pathname + url.search,
        method: request.method ?? 'GET',
        headers: { 'user-agent': 'banger', ...request.headers },
        body: request.body,
        signal: request.signal,
        headersTimeout: idleTimeoutMs,
        bodyTimeout: idleTimeoutMs,
      });
      return {
        status: response.statusCode,
        header: (name) => [response.headers[name] ?? []].flat().join(', ') || undefined,
        body: response.body,
        giveBack: (chunk) => buffers.giveBack(chunk),
        discard: async () => {
          const { limit, timeoutMs } = discarded;
          await response.body.dump({ limit, signal: AbortSignal.timeout(timeoutMs) }).catch(() => undefined);
        },
      };
    } catch (error) {
      // Of a registry that is insecure every certificate is taken, so that this is another's.
      if (request.isInsecure && isCertificateCode(errnoOf(error) ?? ''))
        throw untrustedProxy(error, url.host);
      throw connectionError(error, url.host, request.signal);
    }
  };
}

async function directDispatcher(buffers: ReadBuffers, tls: TlsOptions): Promise<Dispatcher> {
  const { Agent, buildConnector } = await loadUndici();
  return new Agent({ connect: buffers.reading((options) => buildConnector({ ...tls, ...options })) });
}

async function dispatcherBehind(
  proxy: URL,
  requestTls: TlsOptions,
  proxyTls: TlsOptions,
): Promise<Dispatcher> {
  const { ProxyAgent } = await loadUndici();
  return new ProxyAgent({ uri: proxy.href, requestTls, proxyTls });
}

type TlsOptions = { readonly timeout: number } & SecureContextOptions & ConnectionOptions;

function insecureTls(own: HostCertificates | undefined): TlsOptions {
  return { timeout: connectTimeoutMs, rejectUnauthorized: false, ...own?.client };
}

function verifiedTls(env: TransportInput['env'], own: HostCertificates | undefined): TlsOptions {
  const file = env['SSL_CERT_FILE'];
  const secureContext = createSecureContext({
    ca: [
      ...getCACertificates('default'),
      ...getCACertificates('system'),
      ...(file && existsSync(file) ? [readFileSync(file, 'utf8')] : []),
      ...(own?.ca ?? []),
    ],
    ...own?.client,
  });
  return { timeout: connectTimeoutMs, secureContext };
}

/** A connection that broke, or that never came about. */
export class ConnectionError extends BangerError {
  /** True when another attempt may well succeed */
  readonly isTransient: boolean;

  constructor(
    message: string,
    options: { isTransient: boolean; hint?: string; isTimeout?: boolean; cause: unknown },
  ) {
    super(options.isTimeout ? 'timeout' : 'command_failed', message, options);
    this.isTransient = options.isTransient;
  }
}

/** Turns what a socket, TLS or undici threw into an error that says what happened to which host. */
export function connectionError(error: unknown, host: string, signal: AbortSignal): unknown {
  if (signal.aborted) return abortError(signal);
  if (error instanceof BangerError) return error;
  const code = errnoOf(error) ?? '';
  const registry = `Registry "${host}"`;
  const down = 'Check the network and the name of the registry, then try again';
  switch (code) {
    case 'ECONNREFUSED':
      return new ConnectionError(`${registry} refuses connections`, {
        isTransient: false,
        hint: 'Check that it is running, that the port is right, and https_proxy or http_proxy if you use a proxy; then try again',
        cause: error,
      });
    case 'ENOTFOUND':
      return new ConnectionError(`${registry} has no address`, {
        isTransient: false,
        hint: down,
        cause: error,
      });
    case 'EAI_AGAIN':
      return new ConnectionError(`The address of registry "${host}" cannot be looked up`, {
        isTransient: true,
        hint: down,
        cause: error,
      });
    case 'ENETUNREACH':
    case 'EHOSTUNREACH':
      return new ConnectionError(`${registry} cannot be reached`, {
        isTransient: false,
        hint: down,
        cause: error,
      });
    case 'UND_ERR_CONNECT_TIMEOUT':
    case 'ETIMEDOUT':
      return new ConnectionError(`${registry} did not answer within ${connectTimeoutMs / 1000} s`, {
        isTransient: false,
        isTimeout: true,
        hint: down,
        cause: error,
      });
    case 'UND_ERR_HEADERS_TIMEOUT':
    case 'UND_ERR_BODY_TIMEOUT':
      return new ConnectionError(`${registry} sent nothing for ${idleTimeoutMs / 1000} s`, {
        isTransient: true,
        isTimeout: true,
        hint: down,
        cause: error,
      });
  }
  const proxyStatus = /Proxy (?:response|Authentication Required) \((\d+)\)/.exec(errorText(error))?.[1];
  if (proxyStatus !== undefined) {
    const what = proxyStatus === '407' ? 'wants a login' : `answers with status ${proxyStatus}`;
    return new ConnectionError(`The proxy on the way to registry "${host}" ${what}`, {
      isTransient: false,
      hint: 'Check https_proxy or, without TLS, http_proxy (http://USER:PASSWORD@HOST:PORT) and no_proxy, then end the engine, which keeps its environment: banger engine stop',
      cause: error,
    });
  }
  if (code === 'UND_ERR_HEADERS_OVERFLOW' || code === 'HPE_HEADER_OVERFLOW') {
    return new ConnectionError(`${registry} sends headers of more than 16 KiB`, {
      isTransient: false,
      hint: `Check that "${host}" is a container registry`,
      cause: error,
    });
  }
  if (isCertificateCode(code)) {
    return new ConnectionError(`The certificate of registry "${host}" is not trusted: ${code}`, {
      isTransient: false,
      hint: `Name its CA in the config: [registries."${host}"] ca = "/path/to/ca.pem"; or allow it without checks: insecure = true`,
      cause: error,
    });
  }
  if (
    code.startsWith('UND_ERR_') ||
    code.startsWith('HPE_') ||
    /^(ECONN|EPIPE|ERR_SSL|EPROTO|ERR_STREAM)/.test(code)
  ) {
    return new ConnectionError(`The connection to registry "${host}" broke: ${code}`, {
      isTransient: !code.startsWith('ERR_SSL') && code !== 'UND_ERR_INVALID_ARG',
      hint: down,
      cause: error,
    });
  }
  return error;
}

function untrustedProxy(error: unknown, host: string): ConnectionError {
  const what = `The certificate of the proxy on the way to registry "${host}" is not trusted: ${errnoOf(error)}`;
  return new ConnectionError(what, {
    isTransient: false,
    hint: 'Name its CA in SSL_CERT_FILE, then end the engine, which keeps its environment: banger engine stop',
    cause: error,
  });
}

function isCertificateCode(code: string): boolean {
  return /CERT|SELF_SIGNED|UNABLE_TO_VERIFY|UNABLE_TO_GET_ISSUER/.test(code);
}
