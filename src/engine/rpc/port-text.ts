import { isIPv4 } from 'node:net';
import { BangerError } from '../../errors.ts';

/** A port to publish; without `hostPort`, any that is free. */
export interface PortRequest {
  readonly protocol: 'tcp' | 'udp';
  readonly bind: string;
  readonly hostPort?: number;
  readonly guestPort: number;
}

export const loopback = '127.0.0.1';

/** Parses a port to publish, written as for docker: `80`, `8080:80`, `0.0.0.0:8080:80`, `53:53/udp`. */
export function parsePortText(text: string): PortRequest {
  if (text.includes(':/'))
    throw refusal(
      `"${text}" is not a port. A socket is published with --publish, by a path that begins with "/" or "./"`,
    );
  const [place, protocol = 'tcp', ...rest] = text.split('/');
  if (rest.length > 0 || (protocol !== 'tcp' && protocol !== 'udp'))
    throw refusal(`"${protocol}" is not tcp or udp`);
  const ipv6 = /^\[([^\]]*)\]?/.exec(place!)?.[1];
  if (ipv6 !== undefined)
    throw refusal(
      `"${ipv6}" is an IPv6 address, and ports are published on IPv4 ones only: leave it out for ${loopback}, or write 0.0.0.0 for all`,
    );
  const words = place!.split(':');
  if (words.length > 3) throw refusal('Write it as [[ADDRESS:]PORT:]GUESTPORT[/udp], with an IPv4 address');
  const guestPort = parsePortNumber(words.at(-1)!);
  const host = words.at(-2) ?? '';
  const bind = words.at(-3) ?? loopback;
  if (!isIPv4(bind)) throw refusal(`"${bind}" is not an IPv4 address`);
  return { protocol, bind, hostPort: host === '' ? undefined : parsePortNumber(host), guestPort };
}

export function parsePortNumber(text: string): number {
  const port = Number(text);
  if (/^\d+$/.test(text) && port >= 1 && port <= 65_535) return port;
  throw refusal(`"${text}" is not a port: a whole number from 1 to 65535`);
}

function refusal(what: string): BangerError {
  return new BangerError('invalid_argument', what);
}
