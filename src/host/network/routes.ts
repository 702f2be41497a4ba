import { readFile } from 'node:fs/promises';
import { isIPv4 } from 'node:net';
import type { Exec } from '../exec.ts';
import { overlaps, parseSubnet, subnetText, type Subnet } from './addresses.ts';

/** A network that the host has a way to. */
export interface Route {
  readonly subnet: string;
  readonly device: string;
}

/** Every route but default ones. */
export async function readRoutes(exec: Exec): Promise<Route[]> {
  const { stdout } = await exec(['ip', '-json', '-4', 'route', 'show', 'table', 'all']);
  const rows = JSON.parse(stdout.toString('utf8') || '[]') as readonly { dst?: string; dev?: string }[];
  return rows.flatMap(({ dst = '', dev = '' }) => {
    const subnet = parseSubnet(dst);
    return subnet && subnet.prefix > 1 ? [{ subnet: subnetText(subnet), device: dev }] : [];
  });
}

/** The route that a network would take packets from; undefined when there is none. */
export function findClash(subnet: string, routes: readonly Route[]): Route | undefined {
  const wanted = parseSubnet(subnet) as Subnet;
  return routes.find((route) => overlaps(parseSubnet(route.subnet)!, wanted));
}

const maxNameServers = 3;

/**
 * Name servers that guests behind a bridge can ask: the host's, but not those on its loopback, which are for itself.
 * Where systemd-resolved stands between, those that it asks.
 */
export async function guestNameServers(
  files: readonly string[] = ['/etc/resolv.conf', '/run/systemd/resolve/resolv.conf'],
): Promise<string[]> {
  for (const file of files) {
    const text = await readFile(file, 'utf8').catch(() => '');
    const servers = [...text.matchAll(/^\s*nameserver\s+(\S+)/gm)]
      .map((match) => match[1]!)
      .filter((server) => isIPv4(server) && !server.startsWith('127.'));
    if (servers.length > 0) return servers.slice(0, maxNameServers);
  }
  return [];
}
