import { BangerError } from '../../../errors.ts';
import type { RegistryConfig } from '../../../state/config.ts';
import { isLoopback } from './registry-trust.ts';
import { ConnectionError, type Transport } from './transport.ts';

/** A server that may have a repository: the registry itself, or a mirror of it. */
export interface Endpoint {
  /** Host by which people and `docker login` know it */
  readonly name: string;
  readonly isMirror: boolean;
  /** Plain HTTP and unknown certificates are fine: it is on loopback, or the user said so */
  readonly isInsecure: boolean;
  /** Where its `/v2/` is, without a slash at the end of the path */
  readonly base: URL;
}

const hubHost = 'registry-1.docker.io';

/** Where to look for a repository, in this order: mirrors from the configuration, then the registry itself. */
export function endpointsOf(
  registry: string,
  registries: Readonly<Record<string, RegistryConfig>>,
): Endpoint[] {
  const mirrors = (registries[registry]?.mirrors ?? []).map((text) => mirrorEndpoint(text, registries));
  const host = registry === 'docker.io' ? hubHost : registry;
  const base = URL.parse(`https://${host}`);
  if (!base) throw new BangerError('invalid_argument', `"${registry}" is not a registry host`);
  const isInsecure = takesAnything(base, registries[registry]);
  return [...mirrors, { name: registry, isMirror: false, isInsecure, base }];
}

function mirrorEndpoint(text: string, registries: Readonly<Record<string, RegistryConfig>>): Endpoint {
  const base = URL.parse(text.includes('://') ? text : `https://${text}`);
  if (!base || !['http:', 'https:'].includes(base.protocol) || base.username || base.password) {
    throw new BangerError(
      'invalid_argument',
      'A mirror in the configuration is not an http or https address',
      {
        hint: 'Write mirrors like "https://mirror.example.com", without user and password',
      },
    );
  }
  base.pathname = base.pathname.replace(/\/+$/, '');
  const isInsecure = base.protocol === 'http:' || takesAnything(base, registries[base.host]);
  return { name: base.host, isMirror: true, isInsecure, base };
}

/** Whoever names a CA wants it to be checked, also on loopback. */
function takesAnything(base: URL, config: RegistryConfig | undefined): boolean {
  return config?.insecure === true || (isLoopback(base.hostname) && config?.ca === undefined);
}

/**
 * Finds out whether an endpoint that may speak plain HTTP does, and returns it with the right base.
 *
 * Plain first, as docker does on loopback. A TLS port answers that with status 400 or closes the connection.
 */
export async function settleScheme(
  endpoint: Endpoint,
  transport: Transport,
  signal: AbortSignal,
): Promise<Endpoint> {
  if (!endpoint.isInsecure) return endpoint;
  const plain = withProtocol(endpoint, 'http:');
  const secure = withProtocol(endpoint, 'https:');
  const ping = async ({ base }: Endpoint): Promise<number> => {
    const url = new URL(`${base.href.replace(/\/$/, '')}/v2/`);
    const response = await transport(url, { headers: {}, signal, isInsecure: true });
    await response.discard();
    return response.status;
  };
  try {
    if ((await ping(plain)) !== 400) return plain;
  } catch (error) {
    if (!(error instanceof ConnectionError && error.isTransient)) throw error;
  }
  try {
    await ping(secure);
    return secure;
  } catch (error) {
    if (signal.aborted) throw error;
    // Neither: whatever is wrong, the request itself will say it about the scheme we promise to use.
    return plain;
  }
}

function withProtocol(endpoint: Endpoint, protocol: 'http:' | 'https:'): Endpoint {
  // Assigning `protocol` would drop a port that is the default of the other scheme.
  const base = new URL(endpoint.base.href.replace(/^https?:/, protocol));
  return { ...endpoint, base };
}
