import { isIPv4 } from 'node:net';
import { InvalidArgumentError } from 'commander';

/** A port to publish; without `hostPort`, any that is free. */
export interface PortRequest {
  readonly protocol: 'tcp' | 'udp';
  readonly bind: string;
  readonly hostPort?: number;
  readonly guestPort: number;
}

const loopback = '127.0.0.1';

/** Collects `--publish`, written as for docker: `80`, `8080:80`, `0.0.0.0:8080:80`, `53:53/udp`. */
export function collectPort(text: string, collected: readonly PortRequest[] = []): PortRequest[] {
  return [...collected, parsePort(text)];
}

function parsePort(text: string): PortRequest {
  const [place, protocol = 'tcp', ...rest] = text.split('/');
  if (rest.length > 0 || (protocol !== 'tcp' && protocol !== 'udp'))
    throw new InvalidArgumentError(`"${protocol}" is not tcp or udp.`);
  const words = place!.split(':');
  if (words.length > 3)
    throw new InvalidArgumentError('Write it as [[ADDRESS:]PORT:]GUESTPORT[/udp]. Addresses are IPv4 ones.');
  const guestPort = portNumber(words.at(-1)!);
  const host = words.at(-2) ?? '';
  const bind = words.at(-3) ?? loopback;
  if (!isIPv4(bind)) throw new InvalidArgumentError(`"${bind}" is not an IPv4 address.`);
  return { protocol, bind, hostPort: host === '' ? undefined : portNumber(host), guestPort };
}

/** A port of the host, as `--unpublish` names it: `8080` or `53/udp`. */
export interface PortName {
  readonly protocol: 'tcp' | 'udp';
  readonly hostPort: number;
}

export function collectPortName(text: string, collected: readonly PortName[] = []): PortName[] {
  const [port, protocol = 'tcp'] = text.split('/');
  if (protocol !== 'tcp' && protocol !== 'udp')
    throw new InvalidArgumentError(`"${protocol}" is not tcp or udp.`);
  return [...collected, { protocol, hostPort: portNumber(port!) }];
}

function portNumber(text: string): number {
  const port = Number(text);
  if (/^\d+$/.test(text) && port >= 1 && port <= 65_535) return port;
  throw new InvalidArgumentError(`"${text}" is not a port: a whole number from 1 to 65535.`);
}
