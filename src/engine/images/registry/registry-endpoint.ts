import { BangerError } from '../../../errors.ts';
import type { RegistryConfig } from '../../../state/config.ts';
import { answerInTime } from './answer-in-time.ts';
import type { Pace } from './download-pace.ts';
import { isLoopback } from './registry-trust.ts';
import { ConnectionError, type Transport } from './transport.ts';

/** A server that may have a repository: the registry itself, or a mirror of it. */
export interface Endpoint {
  /** Host by which people and `docker login` know it */
  readonly name: string;
  readonly isMirror: boolean;
  /** Plain HTTP and unknown certificates are fine: it is on loopback, or the user said so */
  readonly isInsecure: boolean;
  /** The configuration says `http://` or `https://`, and means it */
  readonly isSchemeGiven: boolean;
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
  return [...mirrors, { name: registry, isMirror: false, isInsecure, isSchemeGiven: false, base }];
}

function mirrorEndpoint(text: string, registries: Readonly<Record<string, RegistryConfig>>): Endpoint {
  const isSchemeGiven = text.includes('://');
  const base = URL.parse(isSchemeGiven ? text : `https://${text}`);
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
  return { name: base.host, isMirror: true, isInsecure, isSchemeGiven, base };
}

/** Whoever names a CA wants it to be checked, also on loopback. */
function takesAnything(base: URL, config: RegistryConfig | undefined): boolean {
  return config?.insecure === true || (isLoopback(base.hostname) && config?.ca === undefined);
}

/**
 * Finds out whether an endpoint that may speak plain HTTP does, and returns it with the right base.
 *
 * On loopback plain comes first: there it is the rule, and a TLS port answers it with status 400 or closes the
 * connection. Elsewhere TLS comes first, with whatever certificate: a login crosses a network in clear text only where
 * there is no other way, and a port 80 that only redirects is not taken for the registry. docker does the same.
 */
export async function settleScheme(
  endpoint: Endpoint,
  { transport, pace: { answerMs } }: { readonly transport: Transport; readonly pace: Pick<Pace, 'answerMs'> },
  signal: AbortSignal,
): Promise<Endpoint> {
  if (!endpoint.isInsecure || endpoint.isSchemeGiven) return endpoint;
  const plain = withProtocol(endpoint, 'http:');
  const secure = withProtocol(endpoint, 'https:');
  const answers = async ({ base }: Endpoint): Promise<boolean> => {
    const url = new URL(`${base.href.replace(/\/$/, '')}/v2/`);
    try {
      const status = await answerInTime({ host: endpoint.name, answerMs, signal }, async (timely) => {
        const response = await transport(url, { headers: {}, signal: timely, isInsecure: true });
        await response.discard();
        return response.status;
      });
      return base.protocol === 'https:' || status !== 400;
    } catch (error) {
      if (signal.aborted || !(error instanceof ConnectionError)) throw error;
      return false;
    }
  };
  const [first, second] = isLoopback(endpoint.base.hostname) ? [plain, secure] : [secure, plain];
  if (await answers(first)) return first;
  // Neither: whatever is wrong, the request itself will say it about the scheme that comes first.
  return (await answers(second)) ? second : first;
}

function withProtocol(endpoint: Endpoint, protocol: 'http:' | 'https:'): Endpoint {
  // Assigning `protocol` would drop a port that is the default of the other scheme.
  const base = new URL(endpoint.base.href.replace(/^https?:/, protocol));
  return { ...endpoint, base };
}
