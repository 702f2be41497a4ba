import { BlockList, isIP } from 'node:net';
import { BangerError } from '../../../errors.ts';
import { isLoopback } from './registry-trust.ts';

type Env = Readonly<Record<string, string | undefined>>;

/**
 * The proxy for an address, as docker and curl choose it: `https_proxy` or `http_proxy`, unless `no_proxy` names the
 * host, in either case of letters. Loopback is never asked for through a proxy.
 */
export function proxyFor(url: URL, env: Env): URL | undefined {
  const either = (name: string): string => env[name] || env[name.toUpperCase()] || '';
  const text = url.protocol === 'https:' ? either('https_proxy') : either('http_proxy');
  if (text === '' || isLoopback(url.hostname) || isExempt(url, either('no_proxy'))) return undefined;
  const proxy = URL.parse(/^[a-z0-9+]+:\/\//i.test(text) ? text : `http://${text}`);
  if (proxy && ['http:', 'https:', 'socks5:'].includes(proxy.protocol)) return proxy;
  // Not repeated: it may hold a password.
  throw new BangerError(
    'invalid_argument',
    `The proxy for "${url.host}" in the environment is no proxy address`,
    {
      hint: 'Write https_proxy like http://proxy.example:3128, then end the engine, which keeps its environment: banger engine stop',
    },
  );
}

/** `no_proxy`: hosts, domains with all below them, addresses, networks such as `10.0.0.0/8`, each perhaps with a port; or `*`. */
function isExempt(url: URL, list: string): boolean {
  const host = url.hostname.replace(/^\[|\]$/g, '').toLowerCase();
  const port = url.port || (url.protocol === 'https:' ? '443' : '80');
  return list
    .split(/[\s,]+/)
    .filter((entry) => entry !== '')
    .some((entry) => matches(entry.toLowerCase(), host, port));
}

function matches(entry: string, host: string, port: string): boolean {
  if (entry === '*') return true;
  const [, network, prefix] = /^([0-9a-f.:]+)\/(\d{1,3})$/.exec(entry) ?? [];
  if (network !== undefined && isIP(network)) return isWithin(host, network, Number(prefix));
  const [, bracketed, plain, wantedPort] =
    /^(?:\[([^\]]+)\]|([^:]+|[^:]*:[^:]*:.*?))(?::(\d+))?$/.exec(entry) ?? [];
  if (wantedPort !== undefined && wantedPort !== port) return false;
  const name = (bracketed ?? plain ?? entry).replace(/^\*?\./, '');
  return host === name || (!isIP(host) && host.endsWith(`.${name}`));
}

function isWithin(host: string, network: string, prefix: number): boolean {
  const family = isIP(host);
  if (family === 0 || family !== isIP(network) || prefix > (family === 4 ? 32 : 128)) return false;
  const type = family === 4 ? 'ipv4' : 'ipv6';
  const list = new BlockList();
  list.addSubnet(network, prefix, type);
  return list.check(host, type);
}
