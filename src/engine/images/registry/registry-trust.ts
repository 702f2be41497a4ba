import { BlockList, isIP } from 'node:net';
import { BangerError } from '../../../errors.ts';

const loopback = new BlockList();
loopback.addSubnet('127.0.0.0', 8, 'ipv4');
loopback.addAddress('::1', 'ipv6');

/** Addresses that mean this very machine or network segment: cloud metadata services live there. */
const linkLocal = new BlockList();
linkLocal.addSubnet('169.254.0.0', 16, 'ipv4');
linkLocal.addSubnet('0.0.0.0', 8, 'ipv4');
linkLocal.addSubnet('fe80::', 10, 'ipv6');
linkLocal.addAddress('::', 'ipv6');
linkLocal.addAddress('fd00:ec2::254', 'ipv6');

/** True for `localhost` and loopback addresses. `hostname` is as in a URL: IPv6 may be in brackets. */
export function isLoopback(hostname: string): boolean {
  const host = bare(hostname);
  return host === 'localhost' || host.endsWith('.localhost') || isIn(loopback, host);
}

/**
 * Decides whether a registry may send us to another address, for a blob or a token, and throws if not.
 *
 * What the registry names is fetched from inside the user's network, so it must not lead to services that trust
 * whoever is near: the machine itself, and the link.
 */
export function checkForeignAddress(target: URL, registry: URL): void {
  const isOpen = registry.protocol === 'http:';
  const isLocal = isLoopback(registry.hostname);
  const host = bare(target.hostname);
  if (
    target.protocol !== 'https:' &&
    !(target.protocol === 'http:' && isOpen && (isLocal || sameHost(target, registry)))
  ) {
    throw refusedAddress(registry, `a "${target.protocol}" address, and only "https:" is followed`);
  }
  if (isIn(linkLocal, host)) throw refusedAddress(registry, `"${target.host}", an address on the local link`);
  if (isLoopback(host) && !isLocal) throw refusedAddress(registry, `"${target.host}", on this machine`);
  if (target.username || target.password) throw refusedAddress(registry, 'an address with a password in it');
}

/** Same name and port. */
export function sameHost(left: URL, right: URL): boolean {
  return left.host === right.host;
}

/**
 * True when a token service may see the credentials of a registry: it is the registry itself, or run by the same
 * owner as far as the name tells (`auth.docker.io` for `registry-1.docker.io`), and nobody can listen in.
 *
 * Of one name, another port is the same owner's, too, where both prove the name by TLS: GitLab's registry has a port of
 * its own, and so has a token service beside a registry.
 */
export function mayReceiveCredentials(realm: URL, registry: URL): boolean {
  if (realm.protocol !== 'https:' && registry.protocol === 'https:') return false;
  if (isLoopback(realm.hostname) && isLoopback(registry.hostname))
    return realm.hostname === registry.hostname;
  if (sameHost(realm, registry)) return true;
  if (isIP(bare(realm.hostname)) || isIP(bare(registry.hostname))) return false;
  if (realm.hostname === registry.hostname)
    return realm.protocol === 'https:' && registry.protocol === 'https:';
  if (realm.port !== '' || registry.port !== '') return false;
  return [registry.hostname, parentDomain(registry.hostname)].some(
    (domain) => domain !== undefined && (realm.hostname === domain || realm.hostname.endsWith(`.${domain}`)),
  );
}

/** The domain above, unless it looks like one under which anybody can register: `io`, `co.uk`, `com.au`. */
function parentDomain(hostname: string): string | undefined {
  const labels = hostname.split('.').slice(1);
  if (labels.length < 2) return undefined;
  const [second, top] = labels.slice(-2) as [string, string];
  const isPublic = labels.length === 2 && top.length === 2 && second.length <= 3;
  return isPublic ? undefined : labels.join('.');
}

function isIn(list: BlockList, host: string): boolean {
  const family = isIP(host);
  return family !== 0 && list.check(host, family === 4 ? 'ipv4' : 'ipv6');
}

function bare(hostname: string): string {
  return hostname.replace(/^\[|\]$/g, '').toLowerCase();
}

function refusedAddress(registry: URL, what: string): BangerError {
  return new BangerError('command_failed', `Registry "${registry.host}" points to ${what}`, {
    hint: 'Do not use this registry, or ask who runs it',
  });
}
