import * as z from 'zod/mini';
import { BangerError } from '../../../errors.ts';
import type { Credentials } from './docker-auth.ts';
import { checkForeignAddress, mayReceiveCredentials } from './registry-trust.ts';
import { readLimited } from './read-limited.ts';
import type { HttpRequest, HttpResponse } from './transport.ts';

/** One way in that a registry offers in `WWW-Authenticate`. */
export interface Challenge {
  readonly scheme: string;
  readonly parameters: Readonly<Record<string, string>>;
}

export interface AuthorizeOptions {
  /** Base address of the registry */
  readonly registry: URL;
  /** Its name in messages and for `docker login` */
  readonly name: string;
  readonly repository: string;
  readonly credentials: Credentials | undefined;
  readonly isInsecure: boolean;
  readonly signal: AbortSignal;
  readonly send: (url: URL, request: HttpRequest) => Promise<HttpResponse>;
}

const maxTokenBytes = 1024 * 1024;
const tokenSchema = z.object({ token: z.optional(z.string()), access_token: z.optional(z.string()) });

/** What a registry is asked with. */
export interface Access {
  /** Value of the header `Authorization` */
  readonly authorization: string;
  /** The login was sent for it, or is in it */
  readonly hasLogin: boolean;
  /** It is a token, which the registry's own service gave */
  readonly isToken: boolean;
  /** Host that would have got the login if it were known to be the registry's own */
  readonly withheldFrom?: string;
}

/**
 * Answers a challenge.
 *
 * The token asked for is good for pulling this repository, whatever the registry suggested; credentials go to the
 * registry and to its own token service only, so a stranger's gets an anonymous request.
 */
export async function authorize(header: string | undefined, options: AuthorizeOptions): Promise<Access> {
  const challenges = parseChallenges(header ?? '');
  const bearer = challenges.find((challenge) => challenge.scheme === 'bearer');
  if (bearer) return fetchToken(bearer, options);
  const basic = challenges.find((challenge) => challenge.scheme === 'basic');
  if (basic && options.credentials?.kind === 'password')
    return { authorization: basicValue(options.credentials), hasLogin: true, isToken: false };
  throw loginNeeded({ ...options, hadCredentials: options.credentials !== undefined });
}

/** Splits `Bearer realm="…",service="…", Basic realm="…"`. */
export function parseChallenges(header: string): Challenge[] {
  const challenges: { scheme: string; parameters: Record<string, string> }[] = [];
  const token = /([\w-]+)\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s,]*))|([\w-]+)/g;
  for (const [, name, quoted, plain, scheme] of header.slice(0, 8192).matchAll(token)) {
    if (scheme !== undefined) challenges.push({ scheme: scheme.toLowerCase(), parameters: {} });
    else if (name !== undefined) {
      const value = quoted?.replace(/\\(.)/g, '$1') ?? plain ?? '';
      const current = challenges.at(-1);
      if (current) current.parameters[name.toLowerCase()] = value;
    }
  }
  return challenges;
}

/** The error when a registry wants a login, or a better one. Docker Hub answers so for what does not exist, too. */
export function loginNeeded({
  name,
  repository,
  hadCredentials,
  wasAccepted = false,
  withheldFrom,
}: Pick<AuthorizeOptions, 'name' | 'repository'> & {
  readonly hadCredentials: boolean;
  /** A token was given for the login, which then did not do */
  readonly wasAccepted?: boolean;
  readonly withheldFrom?: string | undefined;
}): BangerError {
  if (withheldFrom !== undefined) {
    const what = `Registry "${name}" does not give "${repository}" without a login, and wants it to be sent to "${withheldFrom}", which may be somebody else's`;
    const image = `${name}/${repository}`;
    return new BangerError('command_failed', what, {
      hint: `The login was not sent there. If you trust it, take the image with docker: docker pull ${image} && docker save ${image} | banger image import - --name ${image}`,
    });
  }
  const login = name === 'docker.io' ? 'docker login' : `docker login ${name}`;
  if (wasAccepted) {
    const what = `Registry "${name}" does not give "${repository}" to the stored login: it may not read it, or there is no such repository`;
    return new BangerError('command_failed', what, {
      hint: `Check the name, or log in as somebody else: ${login}`,
    });
  }
  const message = hadCredentials
    ? `Registry "${name}" did not accept the stored login for "${repository}"`
    : `Registry "${name}" does not have "${repository}" for everybody: it does not exist or needs a login`;
  return new BangerError('command_failed', message, { hint: `Check the name, or log in with: ${login}` });
}

async function fetchToken(challenge: Challenge, options: AuthorizeOptions): Promise<Access> {
  const realm = URL.parse(challenge.parameters['realm'] ?? '', options.registry.href);
  if (!realm) throw badService(options.name, 'has no address');
  checkForeignAddress(realm, options.registry);

  const isTrusted = mayReceiveCredentials(realm, options.registry);
  const credentials = isTrusted ? options.credentials : undefined;
  const withheldFrom = options.credentials && !isTrusted ? realm.host : undefined;
  const scope = `repository:${options.repository}:pull`;
  const service = challenge.parameters['service'] ?? '';
  const { url, request } = tokenRequest({ realm, service, scope, credentials });
  const response = await options.send(url, {
    ...request,
    signal: options.signal,
    isInsecure: options.isInsecure && isTrusted,
  });
  if (response.status === 401 || response.status === 403) {
    await response.discard();
    throw loginNeeded({ ...options, hadCredentials: credentials !== undefined, withheldFrom });
  }
  if (response.status !== 200) {
    await response.discard();
    throw badService(options.name, `answered with status ${response.status}`);
  }
  const bytes = await readLimited(response.body, maxTokenBytes);
  const token = bytes && parseToken(bytes);
  if (!token) throw badService(options.name, 'sent no token');
  return {
    authorization: `Bearer ${token}`,
    hasLogin: credentials !== undefined,
    isToken: true,
    ...(withheldFrom !== undefined && { withheldFrom }),
  };
}

function tokenRequest(input: {
  realm: URL;
  service: string;
  scope: string;
  credentials: Credentials | undefined;
}): { url: URL; request: Pick<HttpRequest, 'method' | 'headers' | 'body'> } {
  const { realm, service, scope, credentials } = input;
  if (credentials?.kind === 'identity-token') {
    const form = new URLSearchParams({
      grant_type: 'refresh_token',
      service,
      scope,
      client_id: 'banger',
      refresh_token: credentials.token,
    });
    const headers = { 'content-type': 'application/x-www-form-urlencoded' };
    return { url: realm, request: { method: 'POST', headers, body: form.toString() } };
  }
  const url = new URL(realm);
  if (service) url.searchParams.set('service', service);
  url.searchParams.set('scope', scope);
  return { url, request: { headers: credentials ? { authorization: basicValue(credentials) } : {} } };
}

function parseToken(bytes: Buffer): string | undefined {
  try {
    const { token, access_token: accessToken } = z.parse(tokenSchema, JSON.parse(bytes.toString('utf8')));
    const value = token || accessToken;
    // It becomes a header, so it must not be able to become two.
    return value && /^[\x21-\x7e]+$/.test(value) ? value : undefined;
  } catch {
    // Not repeated in the message: it may hold a token.
    return undefined;
  }
}

function basicValue(credentials: Extract<Credentials, { kind: 'password' }>): string {
  return `Basic ${Buffer.from(`${credentials.username}:${credentials.password}`).toString('base64')}`;
}

function badService(name: string, what: string): BangerError {
  return new BangerError('command_failed', `The token service of registry "${name}" ${what}`, {
    hint: 'Try again later; if it stays like this, tell who runs the registry',
  });
}
