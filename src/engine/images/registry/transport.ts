import { createSecureContext, getCACertificates, type SecureContext } from 'node:tls';
import type { Readable } from 'node:stream';
import type { Dispatcher } from 'undici';
import { abortError, BangerError, errnoOf } from '../../../errors.ts';

export interface HttpRequest {
  readonly method?: 'GET' | 'POST';
  readonly headers: Readonly<Record<string, string>>;
  readonly body?: string;
  readonly signal: AbortSignal;
  /** Talk to it directly and take any certificate: for registries on loopback, or marked insecure */
  readonly isInsecure: boolean;
}

export interface HttpResponse {
  readonly status: number;
  /** One header, by its lowercase name; repeated ones joined with commas */
  readonly header: (name: string) => string | undefined;
  readonly body: Readable;
  /** Gives up the body, so that the connection can be used again */
  readonly discard: () => Promise<void>;
}

/** Speaks HTTP, follows nothing, retries nothing. Errors are those of `connectionError`. */
export type Transport = (url: URL, request: HttpRequest) => Promise<HttpResponse>;

const connectTimeoutMs = 10_000;
const idleTimeoutMs = 30_000;

/**
 * Makes a transport that honours `https_proxy`, `http_proxy` and `no_proxy`, and trusts the host's
 * certificates besides those that Node brings, as companies put their own there.
 */
export function createTransport(): Transport {
  // Loaded and made on first use: most engines never pull.
  let verified: Promise<Dispatcher> | undefined;
  let insecure: Promise<Dispatcher> | undefined;

  return async (url, request) => {
    const undici = await import('undici');
    const dispatcher = await (request.isInsecure
      ? (insecure ??= insecureDispatcher())
      : (verified ??= verifiedDispatcher()));
    try {
      const response = await undici.request(url, {
        dispatcher,
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
        discard: () => response.body.dump({ limit: 64 * 1024 }).catch(() => undefined),
      };
    } catch (error) {
      throw connectionError(error, url.host, request.signal);
    }
  };
}

async function verifiedDispatcher(): Promise<Dispatcher> {
  const { EnvHttpProxyAgent } = await import('undici');
  const tls = { timeout: connectTimeoutMs, secureContext: trustedContext() };
  return new EnvHttpProxyAgent({ connect: tls, requestTls: tls, proxyTls: tls });
}

async function insecureDispatcher(): Promise<Dispatcher> {
  const { Agent } = await import('undici');
  return new Agent({ connect: { timeout: connectTimeoutMs, rejectUnauthorized: false } });
}

function trustedContext(): SecureContext {
  return createSecureContext({ ca: [...getCACertificates('default'), ...getCACertificates('system')] });
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
        hint: 'Check that it is running, that the port is right, and https_proxy if you use a proxy; then try again',
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
  if (isCertificateCode(code)) {
    return new ConnectionError(`The certificate of registry "${host}" is not trusted: ${code}`, {
      isTransient: false,
      hint: `Install its CA on this host, or allow it without TLS checks in the config: [registries."${host}"] insecure = true`,
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

function isCertificateCode(code: string): boolean {
  return /CERT|SELF_SIGNED|UNABLE_TO_VERIFY|UNABLE_TO_GET_ISSUER/.test(code);
}
